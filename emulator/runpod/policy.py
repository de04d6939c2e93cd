"""How jobs, and requests to load-balancing endpoints, end at RunPod that their workers did not end: the words are in
`facts`."""

from __future__ import annotations

from emulator.engine.jobs import Job
from emulator.engine.policy import JobPolicy
from emulator.runpod import facts
from emulator.runpod.endpoint import EndpointType


def _lost(job: Job, _: str) -> None:
    job.fail(facts.LOST_ERROR.format(retries=job.retries))


def _over_time(job: Job) -> None:
    job.fail(facts.EXECUTION_TIMEOUT_ERROR)


JOB_POLICY = JobPolicy(
    max_attempts=facts.MAX_ATTEMPTS, silence_s=facts.SILENCE_S, on_lost=_lost, on_over_time=_over_time
)
"""Jobs whose workers never start fail and say so; at RunPod they would wait in the queue until their time to live is
over, without a reason (runpod-mcp, pull request 62)."""

REQUEST_POLICY = JobPolicy(max_attempts=1, on_over_time=_over_time)
"""A load balancer tries nothing again [DOCS]."""

POLICIES = {EndpointType.QUEUE: JOB_POLICY, EndpointType.LOAD_BALANCER: REQUEST_POLICY}
