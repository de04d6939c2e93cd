"""Deployed endpoints, run by the emulator: the function is the one that the variable `ADAPTER_CLASS` names. Images are
not run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.endpoints import Endpoints, limits_of
from emulator.engine.clock import Clock
from emulator.engine.jobs import Attempt
from emulator.engine.policy import PoolLimits
from emulator.engine.pool import LogEntry
from emulator.engine.worker import Worker, WorkerLost
from emulator.runpod import facts
from emulator.runpod.endpoint import EndpointType, QueueEndpoint
from emulator.runpod.management import rules
from emulator.runpod.management.account import timestamp
from emulator.runpod.management.logs import LogLine
from emulator.runpod.management.problems import not_found
from emulator.runpod.management.views import WorkerView
from yapit.errors import ConfigurationError
from yapit.function_spec import FunctionSpec

Resource = dict[str, Any]
ADAPTER_CLASS = "ADAPTER_CLASS"
MAX_KNOWN_WORKERS = 1_000
_FAILED = ("failed to start", "lost")


class EndpointFleet:
    def __init__(self, endpoints: Endpoints, specs: Mapping[str, FunctionSpec], clock: Clock) -> None:
        self._endpoints, self._clock = endpoints, clock
        self._zero_s = clock.time() - clock.now()  # once: the two are never read at the same moment
        self._by_adapter = {spec.adapter_class: spec for spec in specs.values()}
        self._deployed: dict[str, Resource] = {}
        self._versions: dict[str, dict[str, int]] = {}

    def start(self, endpoint: Resource) -> None:
        endpoint_id, settings = endpoint["id"], endpoint["settings"]
        self._deployed[endpoint_id] = endpoint
        self._versions[endpoint_id] = {}

        def make_worker(worker_id: str) -> Worker:
            return self._make_worker(endpoint_id, worker_id)

        self._endpoints.put(endpoint_id, EndpointType(settings["type"]), self._limits(settings), make_worker)
        self._set_timeout(endpoint)

    def update(self, endpoint: Resource, *, rolls_out: bool) -> None:
        """Idle workers are replaced at once, busy ones after their jobs [DOCS]."""
        self._deployed[endpoint["id"]] = endpoint
        pool = self._endpoints[endpoint["id"]].pool
        pool.limits = self._limits(endpoint["settings"])
        self._set_timeout(endpoint)
        if rolls_out:
            for worker_id in pool.states():
                pool.recycle(worker_id)
        pool.open()

    async def stop(self, endpoint_id: str) -> None:
        del self._deployed[endpoint_id], self._versions[endpoint_id]
        await self._endpoints.remove(endpoint_id)

    def workers(self, endpoint_id: str) -> list[WorkerView]:
        """Those that there are, and for a while those that died."""
        pool, now_s = self._endpoints[endpoint_id].pool, self._clock.now()
        started = {entry.worker_id: entry.at_s for entry in pool.log if entry.event == "starting"}
        died = {
            entry.worker_id: "unhealthy"
            for entry in pool.log
            if entry.event in _FAILED and now_s - entry.at_s < rules.WORKER_FAILURE_SHOWN_S
        }
        versions = self._versions[endpoint_id]
        return [
            WorkerView(
                worker_id,
                state.upper(),
                versions[worker_id],
                timestamp(self._zero_s + started.get(worker_id, now_s)),
                now_s - started.get(worker_id, now_s),
            )
            for worker_id, state in {**died, **pool.states()}.items()
        ]

    def log(self, endpoint_id: str, worker_id: str) -> list[LogLine]:
        """What a worker did and, if it died, its last words. Raises `Problem` where it never was."""
        if worker_id not in self._versions.get(endpoint_id, {}):
            raise not_found("worker", worker_id)
        entries = [entry for entry in self._endpoints[endpoint_id].pool.log if entry.worker_id == worker_id]
        return [line for entry in entries for line in _lines(entry, round(self._zero_s + entry.at_s, 6))]

    def _make_worker(self, endpoint_id: str, worker_id: str) -> Worker:
        endpoint = self._deployed[endpoint_id]
        settings = endpoint["settings"]
        self._note_version(endpoint_id, worker_id, endpoint["version"])
        spec = self._spec(settings)
        if spec is None:
            known = ", ".join(self._by_adapter)
            return UnstartableWorker(
                f"the emulator runs no images, but functions: the variable {ADAPTER_CLASS} is "
                f"{settings['env'].get(ADAPTER_CLASS)!r}, and there is {known}"
            )
        return self._endpoints.worker_maker(endpoint_id, spec, EndpointType(settings["type"]), settings["env"])(
            worker_id
        )

    def _note_version(self, endpoint_id: str, worker_id: str, version: int) -> None:
        """Of workers that are there, or that the pool's log still knows."""
        pool, versions = self._endpoints[endpoint_id].pool, self._versions[endpoint_id]
        if len(versions) >= MAX_KNOWN_WORKERS:
            known = {*pool.states(), *(entry.worker_id for entry in pool.log)}
            self._versions[endpoint_id] = versions = {w: v for w, v in versions.items() if w in known}
        versions[worker_id] = version

    def _spec(self, settings: Resource) -> FunctionSpec | None:
        return self._by_adapter.get(settings["env"].get(ADAPTER_CLASS, ""))

    def _limits(self, settings: Resource) -> PoolLimits:
        spec, workers = self._spec(settings), settings["workers"]
        return PoolLimits(
            min_workers=workers["min"],
            max_workers=workers["max"],
            concurrency=limits_of(spec, EndpointType(settings["type"])).concurrency if spec else 1,
            idle_timeout_s=workers.get("idleTimeout", rules.DEFAULT_IDLE_TIMEOUT_S),
        )

    def _set_timeout(self, endpoint: Resource) -> None:
        served, timeout_ms = self._endpoints[endpoint["id"]], endpoint["settings"]["timeout"]
        if isinstance(served, QueueEndpoint):
            shortest_ms, _ = facts.EXECUTION_TIMEOUT_RANGE_MS
            served.execution_timeout_ms = max(shortest_ms, timeout_ms) if timeout_ms else facts.EXECUTION_TIMEOUT_MS


class UnstartableWorker:
    """A worker whose container ends as soon as it is started."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def start(self) -> None:
        raise ConfigurationError(self._reason)

    async def run(self, attempt: Attempt) -> None:
        raise WorkerLost(f"{attempt.job_id}: {self._reason}")

    async def stop(self) -> None: ...


def _lines(entry: LogEntry, at_s: float) -> list[LogLine]:
    what = f"worker {entry.worker_id} {entry.event}" + (f" {entry.job_id}" if entry.job_id else "")
    return [LogLine(at_s, "system", what), *(LogLine(at_s, "container", line) for line in entry.detail.splitlines())]
