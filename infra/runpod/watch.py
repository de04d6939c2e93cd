"""What the workers of an endpoint are doing while it is tried, and what they said when it fails."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable

from infra.runpod.management import ManagementClient
from yapit.errors import DeploymentFailed

CRASHES = 3
"""Workers that may crash before it is called a loop. RunPod itself tries again for days."""
LOG_LINES = 20
LOOK_S = 5.0
"""An account may ask 60 times a minute, for everything [V2]."""


class WorkerWatch:
    """`clock`: seconds since some fixed moment."""

    def __init__(self, client: ManagementClient, endpoint_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._endpoint_id, self._clock = client, endpoint_id, clock
        self._next_s = clock()
        self._crashed: list[str] = []
        self._seen: dict[str, str] = {}
        self._told = ""

    def look(self) -> None:
        """Tell what has changed, if it is time to ask. Raises `DeploymentFailed` where workers crash one after the
        other; that RunPod does not answer now says nothing of them."""
        if self._clock() < self._next_s:
            return
        self._next_s = self._clock() + LOOK_S
        try:
            self._ask()
        except DeploymentFailed:
            return
        counts = Counter(self._seen.values())
        told = ", ".join(f"{count} {status.lower()}" for status, count in sorted(counts.items())) or "none yet"
        if told != self._told:
            self._told = told
            print(f"workers: {told}", file=sys.stderr, flush=True)
        if len(self._crashed) >= CRASHES:
            raise DeploymentFailed(f"{len(self._crashed)} workers crashed one after the other")

    def _ask(self) -> None:
        current = [w for w in self._client.workers(self._endpoint_id) if not w["isStale"]]
        self._seen = {worker["id"]: worker["status"] for worker in current}
        self._crashed += [w for w, s in self._seen.items() if s == "UNHEALTHY" and w not in self._crashed]

    def account(self) -> str:
        """Why it may have failed: the log of the last that crashed or, if none has, of one that is there."""
        self._ask()
        if self._seen and set(self._seen.values()) == {"THROTTLED"}:
            return (
                "its workers wait for capacity: name more gpu_pools in the function's spec, leave out data_centers, or "
                "try again later"
            )
        workers = self._crashed[-1:] or list(self._seen)[-1:]
        if not workers:
            return "it had no worker that could say why"
        lines = self._client.last_lines(self._endpoint_id, workers[0], LOG_LINES)
        return "\n".join([f"the log of worker {workers[0]}:", *(f"  {line}" for line in lines or ["(empty)"])])
