"""How many workers a pool should have."""

from __future__ import annotations

from emulator.engine.policy import PoolLimits
from emulator.engine.queue import JobQueue
from emulator.engine.slot import Slots


def missing_workers(limits: PoolLimits, queue: JobQueue, slots: Slots, running: int) -> int:
    """How many workers to start now: for the jobs that wait, for the minimum, and for the buffer beside them."""
    room = limits.max_workers - len(slots)
    if room <= 0:
        return 0
    waiting = queue.urgent or (1 if queue.ready and not slots else 0)
    needed = -(-(waiting - slots.promised(limits.concurrency)) // limits.concurrency)
    spare = len(slots) + max(0, needed) - busy_workers(limits, queue, running)
    is_in_use = queue.urgent or running
    missing_buffer = max(0, limits.buffer_workers - spare) if is_in_use and limits.buffer_workers else 0
    return max(0, min(max(limits.min_workers - len(slots), needed + missing_buffer), room))


def kept_workers(limits: PoolLimits, queue: JobQueue, running: int) -> int:
    """How many workers stay though they are idle."""
    busy = busy_workers(limits, queue, running)
    return max(limits.min_workers, busy + limits.buffer_workers if busy else 0)


def busy_workers(limits: PoolLimits, queue: JobQueue, running: int) -> int:
    """As many as the jobs that run and wait need."""
    return -(-(queue.urgent + running) // limits.concurrency)
