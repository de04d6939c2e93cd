"""The workers' places in a pool: what each is doing, and how much more it may have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
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


class Slots:
    """The workers of a pool, and among them those that may have room, so that a full pool is not searched."""

    def __init__(self) -> None:
        self._by_id: dict[str, Slot] = {}
        self._roomy: dict[Slot, None] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Slot]:
        return iter([*self._by_id.values()])

    def __contains__(self, slot: Slot) -> bool:
        return slot.worker_id in self._by_id

    def get(self, worker_id: str) -> Slot | None:
        return self._by_id.get(worker_id)

    def add(self, slot: Slot) -> None:
        self._by_id[slot.worker_id] = slot

    def remove(self, slot: Slot) -> bool:
        """False if it had left before."""
        self._roomy.pop(slot, None)
        return self._by_id.pop(slot.worker_id, None) is not None

    def may_have_room(self, *slots: Slot) -> None:
        """Something has changed for them."""
        self._roomy.update((slot, None) for slot in slots if slot in self)

    def roomiest(self, concurrency: int, but: Slot | None = None) -> Slot | None:
        """The worker with room that serves the fewest jobs; another one than `but` if there is any."""
        for slot in [slot for slot in self._roomy if slot.room(concurrency) <= 0]:
            del self._roomy[slot]
        return min(self._roomy, key=lambda slot: (slot is but, len(slot.jobs)), default=None)

    def promised(self, concurrency: int) -> int:
        """How many jobs more they may have soon."""
        return sum(slot.promise(concurrency) for slot in self)
