"""A worker's place in the pool: what it is doing, and how much more it may have."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from emulator.engine.clock import Timer
from emulator.engine.jobs import Attempt
from emulator.engine.pulled import PulledWorker
from emulator.engine.worker import WatchedWorker, Worker


@dataclass(eq=False, slots=True)
class Slot:
    worker_id: str
    worker: Worker
    is_ready: bool = False
    is_throttled: bool = False
    is_spent: bool = False
    jobs: dict[Attempt, asyncio.Task[None]] = field(default_factory=dict)
    idle_timer: Timer | None = None
    starting: asyncio.Task[None] | None = None

    @property
    def is_healthy(self) -> bool:
        return not isinstance(self.worker, WatchedWorker) or self.worker.is_healthy

    @property
    def state(self) -> str:
        if not self.is_healthy:
            return "unhealthy"
        if self.is_throttled:
            return "throttled"
        if not self.is_ready:
            return "initializing"
        return "running" if self.jobs else "idle"

    def room(self, concurrency: int) -> int:
        """How many more jobs it may have now. A worker that pulls decides itself how many it takes."""
        if not self.is_ready or self.is_spent:
            return 0
        return self.worker.room if isinstance(self.worker, PulledWorker) else concurrency - len(self.jobs)

    def promise(self, concurrency: int) -> int:
        """How many more jobs it may have soon: once it is ready, or asks again."""
        return max(0, concurrency - len(self.jobs)) if self.is_healthy and not self.is_spent else 0

    def stop_waiting(self) -> None:
        """It is no longer idle, or no longer here."""
        if self.idle_timer:
            self.idle_timer.cancel()
            self.idle_timer = None
