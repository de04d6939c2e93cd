"""RunPod endpoints: their workers and, of a queue endpoint, its jobs, and how they look in RunPod's JSON."""

from __future__ import annotations

import enum
import logging
import uuid
from typing import Any, ClassVar

from emulator.engine.clock import Clock
from emulator.engine.jobs import Job, JobState
from emulator.engine.pool import WorkerPool
from emulator.engine.store import JobStore
from emulator.runpod import facts
from emulator.runpod.payload import split
from emulator.runpod.webhooks import is_address

logger = logging.getLogger(__name__)


class BadRequest(Exception):
    """The request cannot become a job; the message is for whoever sent it."""


class NotEmulated(Exception):
    """The request asks for what is not here; the message names it."""


class EndpointType(enum.Enum):
    """As RunPod's management API names them [V2]."""

    QUEUE = "QUEUE"
    LOAD_BALANCER = "LOAD_BALANCER"


class Endpoint:
    """What both types have: an id, workers and counters. `clock` must be the pool's own."""

    type: ClassVar[EndpointType]

    def __init__(self, endpoint_id: str, pool: WorkerPool, clock: Clock) -> None:
        self.endpoint_id, self.pool, self._clock = endpoint_id, pool, clock

    def health(self) -> dict[str, Any]:
        finished, workers = self.pool.finished, self.pool.workers()
        return {
            "jobs": {
                "completed": finished[JobState.COMPLETED],
                "failed": finished[JobState.FAILED] + finished[JobState.TIMED_OUT],
                "inProgress": self.pool.running,
                "inQueue": self.pool.queued,
                "retried": self.pool.retried,
            },
            "workers": {
                "idle": workers["idle"],
                "initializing": workers["initializing"],
                "ready": workers["idle"] + workers["running"],
                "running": workers["running"],
                "throttled": workers["throttled"],
                "unhealthy": workers["unhealthy"],
            },
        }

    def metrics(self) -> dict[str, Any]:
        """What runpod-flash reads; there may be more [?]."""
        ready = [worker_id for worker_id, state in self.pool.states().items() if state in ("idle", "running")]
        return {"readyWorkers": ready, "workers": self.health()["workers"]}


class QueueEndpoint(Endpoint):
    """Its pool runs jobs, which clients submit and poll."""

    type = EndpointType.QUEUE

    def __init__(self, endpoint_id: str, pool: WorkerPool, clock: Clock) -> None:
        super().__init__(endpoint_id, pool, clock)
        self.jobs = JobStore(clock)
        self.execution_timeout_ms = facts.EXECUTION_TIMEOUT_MS

    def submit(self, body: Any, *, is_sync: bool, size_bytes: int = 0) -> Job:
        """Make and queue the job of a `/run` or `/runsync` body of that size.

        Raises `BadRequest`, `NotEmulated` and `StoreFull`.
        """
        policy = _checked(body)
        timeout_ms = _milliseconds(
            policy, "executionTimeout", self.execution_timeout_ms, facts.EXECUTION_TIMEOUT_RANGE_MS
        )
        ttl_ms = _milliseconds(policy, "ttl", facts.TTL_MS, facts.TTL_RANGE_MS)
        prefix = facts.SYNC_ID_PREFIX if is_sync else ""
        job = Job(
            f"{prefix}{uuid.uuid4()}{facts.ID_SUFFIX}",
            body["input"],
            self._clock,
            execution_timeout_s=timeout_ms / 1000,
            low_priority=bool(policy.get("lowPriority")),
            labels={
                "webhook": body.get("webhook"),
                "ttl_s": ttl_ms / 1000,
                "max_output_bytes": facts.RUNSYNC_OUTPUT_BYTES if is_sync else facts.RUN_OUTPUT_BYTES,
            },
        )
        retention_s = facts.RUNSYNC_RETENTION_S if is_sync else facts.RUN_RETENTION_S
        self.jobs.add(job, ttl_s=ttl_ms / 1000, retention_s=retention_s, input_bytes=size_bytes)
        if body["input"] == {}:
            logger.warning("job %s has the empty input {}: at RunPod its worker never gets it", job.job_id)
            job.retries = facts.EMPTY_INPUT_RETRIES
            job.fail(facts.EMPTY_INPUT_ERROR)
        else:
            self.pool.submit(job)
        return job

    def retry(self, job: Job) -> bool:
        """Run a failed job again under its id."""
        if not self.pool.retry(job):
            return False
        self.jobs.revive(job, ttl_s=job.labels["ttl_s"])
        return True

    def status(self, job: Job) -> dict[str, Any]:
        """RunPod's account of a job: keys in alphabetical order, absent ones left out [LIVE 15, 23]."""
        answer: dict[str, Any] = {"id": job.job_id, "status": facts.STATUS[job.state]}
        if job.started_at is not None:
            answer["delayTime"] = _ms(job.started_at - job.submitted_at)
            if job.finished_at is not None:
                answer["executionTime"] = _ms(job.finished_at - job.started_at)
        if job.worker_id is not None and job.state is not JobState.CANCELLED:
            answer["workerId"] = job.worker_id
        if job.retries:
            answer["retries"] = job.retries
        if job.error is not None:
            answer["error"] = job.error
        if job.output is not None:
            answer["output"] = job.output
        return dict(sorted(answer.items()))

    def chunks(self, job: Job) -> dict[str, Any]:
        """What `/stream` answers: the chunks since the last call, those above 1 MB split."""
        stream = [{"output": part} for chunk in job.drain() for part in split(chunk)]
        answer: dict[str, Any] = {"status": facts.STATUS[job.state], "stream": stream}
        if job.error is not None:
            answer["error"] = job.error
        return answer


def _checked(body: Any) -> dict[str, Any]:
    """The policy of a body that can become a job."""
    if not isinstance(body, dict) or "input" not in body:
        raise BadRequest("the body must be an object with the key 'input'")
    for key in ("s3Config", "webhookV2"):
        if body.get(key) is not None:
            raise NotEmulated(key)
    if body.get("webhook") and not is_address(body["webhook"]):
        raise BadRequest(f"webhook must be an http or https address, found {body['webhook']!r}")
    policy = body.get("policy") or {}
    if not isinstance(policy, dict):
        raise BadRequest("policy must be an object")
    return policy


def _milliseconds(policy: dict[str, Any], key: str, default: int, bounds: tuple[int, int]) -> int:
    value = policy.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not bounds[0] <= value <= bounds[1]:
        raise BadRequest(f"policy.{key} must be {bounds[0]} to {bounds[1]} milliseconds, found {value!r}")
    return value


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
