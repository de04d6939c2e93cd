"""RunPod's rate limits, off unless asked for: requests per 10 s and at once, per endpoint and operation [DOCS]."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from emulator.engine.clock import Clock
from emulator.runpod import facts


class TooManyRequests(Exception):
    """Over a limit; the message names it."""


@dataclass(frozen=True, slots=True)
class RunpodLimits:
    """`rates`: operation → (requests per 10 s, requests at once); None where there is no such limit. An operation that
    is not listed has none. RunPod raises them with the workers that run, by how much is not known [?]: here they stay.
    """

    rates: Mapping[str, tuple[int, int | None]] = field(default_factory=lambda: facts.RATE_LIMITS)
    min_queue: int = facts.QUEUE_LIMIT_MIN
    queue_per_max_worker: int = facts.QUEUE_LIMIT_PER_MAX_WORKER


class RateLimiter:
    """The window slides: what was admitted counts for the 10 s that follow."""

    def __init__(self, limits: RunpodLimits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._admitted: dict[tuple[str, str], deque[float]] = {}
        self._open: dict[tuple[str, str], int] = {}

    def check_queue(self, queued: int, max_workers: int) -> None:
        """Raises `TooManyRequests` where too many jobs wait for a new one to be taken."""
        if queued > self._limits.min_queue and queued > max_workers * self._limits.queue_per_max_worker:
            raise TooManyRequests(f"{queued} jobs wait for at most {max_workers} workers")

    @contextmanager
    def admit(self, endpoint_id: str, operation: str) -> Iterator[None]:
        """Count a call while it is served. Raises `TooManyRequests`."""
        rate = self._limits.rates.get(operation)
        if rate is None:
            yield
            return
        requests, at_once = rate
        key, now_s = (endpoint_id, operation), self._clock.now()
        admitted = self._admitted.setdefault(key, deque())
        while admitted and admitted[0] <= now_s - facts.RATE_WINDOW_S:
            admitted.popleft()
        if len(admitted) >= requests:
            raise TooManyRequests(f"{operation}: over {requests} requests in {facts.RATE_WINDOW_S:g} s")
        if at_once is not None and self._open.get(key, 0) >= at_once:
            raise TooManyRequests(f"{operation}: over {at_once} requests at once")
        admitted.append(now_s)
        self._open[key] = self._open.get(key, 0) + 1
        try:
            yield
        finally:
            self._open[key] -= 1
