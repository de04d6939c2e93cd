"""The workers of one endpoint: started when jobs wait, stopped when idle, replaced when they die."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from emulator.engine.clock import Clock, Timer
from emulator.engine.faults import Effect, Faults
from emulator.engine.jobs import Job, JobState
from emulator.engine.pulled import PulledWorker
from emulator.engine.worker import Worker, WorkerLost, WorkerSpent

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 2
"""A job whose worker is lost runs once more, then fails."""
EXECUTION_TIMEOUT_ERROR = "executionTimeout exceeded"
MAX_LOG_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How an endpoint scales. `concurrency` is per worker."""

    min_workers: int = 0
    max_workers: int = 3
    concurrency: int = 1
    idle_timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What a worker did, and when (seconds of the clock)."""

    at_s: float
    worker_id: str
    event: str
    job_id: str | None = None


@dataclass(eq=False, slots=True)
class _Slot:
    worker_id: str
    worker: Worker
    is_ready: bool = False
    is_spent: bool = False
    jobs: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    idle_timer: Timer | None = None
    starting: asyncio.Task[None] | None = None

    @property
    def is_healthy(self) -> bool:
        return not isinstance(self.worker, PulledWorker) or self.worker.is_healthy

    def room(self, concurrency: int) -> int:
        """How many more jobs it may have now. A worker that pulls decides itself how many it takes."""
        if not self.is_ready or self.is_spent:
            return 0
        return self.worker.room if isinstance(self.worker, PulledWorker) else concurrency - len(self.jobs)

    def promise(self, concurrency: int) -> int:
        """How many more jobs it may have soon: once it is ready, or asks again."""
        return max(0, concurrency - len(self.jobs)) if self.is_healthy and not self.is_spent else 0


class WorkerPool:
    """First in, first out; a job goes to the ready worker that serves the fewest."""

    def __init__(
        self,
        make_worker: Callable[[str], Worker],
        limits: PoolLimits,
        clock: Clock,
        *,
        max_queue: int = 10_000,
        faults: Faults | None = None,
    ) -> None:
        self.limits, self.max_queue = limits, max_queue
        self.log: deque[LogEntry] = deque(maxlen=MAX_LOG_ENTRIES)
        self.finished: Counter[JobState] = Counter()
        self.retried = 0
        self._make_worker, self._clock, self._faults = make_worker, clock, faults or Faults()
        self._queue: deque[Job] = deque()
        self._slots: list[_Slot] = []
        self._stopping: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._failed_starts = 0
        self._is_closed = False

    def open(self) -> None:
        """Start the workers that are always there."""
        self._scale()

    async def close(self) -> None:
        """Stop every worker; running jobs end as cancelled."""
        self._is_closed = True
        for job in [*self._queue]:
            job.cancel()
        self._queue.clear()
        for slot in [*self._slots]:
            self._retire(slot, "closed")
        while self._stopping:
            await asyncio.gather(*self._stopping, return_exceptions=True)

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= self.max_queue

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        return sum(len(slot.jobs) for slot in self._slots)

    def workers(self) -> Counter[str]:
        """How many workers there are by state: initializing, idle, running, unhealthy."""
        return Counter(_state(slot) for slot in self._slots)

    def worker(self, worker_id: str) -> Worker | None:
        return next((slot.worker for slot in self._slots if slot.worker_id == worker_id), None)

    def recycle(self, worker_id: str) -> None:
        """Replace a worker once the jobs that it has are over."""
        for slot in [slot for slot in self._slots if slot.worker_id == worker_id]:
            slot.is_spent = True
            self._retire_if_spent(slot)
            self._scale()

    def submit(self, job: Job) -> None:
        """Queue a job and see to it that it runs."""
        if self._ended not in job.on_final:
            job.on_final.append(self._ended)
        self._queue.append(job)
        self._dispatch()

    def cancel(self, job: Job) -> bool:
        """Cancel a queued or running job. False if it was over."""
        return job.cancel()

    def purge(self) -> int:
        """Cancel every queued job; how many there were."""
        jobs = list(self._queue)
        for job in jobs:
            self.cancel(job)
        return len(jobs)

    def retry(self, job: Job) -> bool:
        if not job.retry():
            return False
        self.retried += 1
        self.submit(job)
        return True

    def _dispatch(self) -> None:
        while self._queue:
            ready = [slot for slot in self._slots if slot.room(self.limits.concurrency) > 0]
            if not ready:
                break
            job = self._queue.popleft()
            slot = min(ready, key=lambda s: len(s.jobs))
            if job.start(slot.worker_id):
                self._run(slot, job)
        self._scale()

    def _scale(self) -> None:
        if self._is_closed:
            return
        promised = sum(slot.promise(self.limits.concurrency) for slot in self._slots)
        waiting = sum(not job.low_priority for job in self._queue) or (1 if self._queue and not self._slots else 0)
        wanted = max(self.limits.min_workers - len(self._slots), waiting - promised)
        for _ in range(min(wanted, self.limits.max_workers - len(self._slots))):
            self._start_worker()

    def _start_worker(self) -> None:
        worker_id = f"worker-{next(self._numbers)}"
        slot = _Slot(worker_id, self._make_worker(worker_id))
        if isinstance(slot.worker, PulledWorker):
            slot.worker.on_room = self._dispatch
            slot.worker.on_lost = lambda reason: self._lost(slot, reason)
        self._slots.append(slot)
        self._note(slot, "starting")
        slot.starting = asyncio.create_task(self._start(slot))

    async def _start(self, slot: _Slot) -> None:
        try:
            await slot.worker.start()
        except Exception as error:
            logger.error("worker %s failed to start: %s", slot.worker_id, error)
            self._failed_starts += 1
            self._retire(slot, "failed to start")
            self._give_up_after_failed_start(error)
            return
        self._failed_starts = 0
        slot.is_ready = True
        self._note(slot, "ready")
        self._dispatch()
        self._watch_idleness(slot)

    def _give_up_after_failed_start(self, error: Exception) -> None:
        """A crash loop would run for ever: the jobs that waited for it fail, saying why."""
        if self._slots or self._failed_starts < MAX_ATTEMPTS:
            self._scale()
            return
        self._failed_starts = 0
        while self._queue:
            job = self._queue.popleft()
            job.fail(f"the worker failed to start {MAX_ATTEMPTS} times: {error}")

    def _run(self, slot: _Slot, job: Job) -> None:
        if slot.idle_timer:
            slot.idle_timer.cancel()
            slot.idle_timer = None
        self._note(slot, "job", job.job_id)
        if isinstance(slot.worker, PulledWorker):
            slot.worker.hand(job)
        task = asyncio.create_task(self._serve(slot, job))
        slot.jobs[job.job_id] = task
        task.add_done_callback(lambda _: self._served(slot, job))

    async def _serve(self, slot: _Slot, job: Job) -> None:
        timer = None
        if job.execution_timeout_s is not None:
            timer = self._clock.call_later(job.execution_timeout_s, lambda: job.fail(EXECUTION_TIMEOUT_ERROR))
        try:
            await self._run_with_faults(slot.worker, job)
        except WorkerLost as error:
            self._lost(slot, str(error))
        except WorkerSpent:
            slot.is_spent = True
        except asyncio.CancelledError:
            if self._is_closed:
                job.cancel()  # otherwise the job ended from outside, or its worker was lost and it runs again
        except Exception as error:
            logger.exception("worker %s broke", slot.worker_id)
            self._lost(slot, str(error))
        finally:
            if timer:
                timer.cancel()

    async def _run_with_faults(self, worker: Worker, job: Job) -> None:
        if self._faults.strike(Effect.KILL_BEFORE, job.job_id):
            raise WorkerLost("a fault rule, before the job")
        if self._faults.strike(Effect.KILL_DURING, job.job_id):
            await _run_until_chunk(worker, job)
            raise WorkerLost("a fault rule, during the job")
        await worker.run(job)
        if self._faults.strike(Effect.KILL_AFTER, job.job_id):
            raise WorkerLost("a fault rule, after the job")

    def _served(self, slot: _Slot, job: Job) -> None:
        slot.jobs.pop(job.job_id, None)
        self._note(slot, "done", job.job_id)
        if job.state is JobState.RUNNING:
            self._attempt_again(job)
        self._retire_if_spent(slot)
        self._dispatch()
        self._watch_idleness(slot)

    def _lost(self, slot: _Slot, reason: str) -> None:
        logger.warning("worker %s lost: %s", slot.worker_id, reason)
        self._retire(slot, "lost")
        self._scale()

    def _retire_if_spent(self, slot: _Slot) -> None:
        if slot.is_spent and not slot.jobs:
            self._retire(slot, "recycled")

    def _attempt_again(self, job: Job) -> None:
        if job.retries + 1 >= MAX_ATTEMPTS:
            job.fail(f"job timed out after {job.retries} retries")
        elif job.requeue():
            self.retried += 1
            self._put_back(job)

    def _put_back(self, job: Job) -> None:
        """Before the jobs that no worker had yet, in the order of submission."""
        later = (n for n, other in enumerate(self._queue) if not other.retries or other.submitted_at > job.submitted_at)
        self._queue.insert(next(later, len(self._queue)), job)

    def _watch_idleness(self, slot: _Slot) -> None:
        if slot in self._slots and not slot.jobs and slot.idle_timer is None:
            slot.idle_timer = self._clock.call_later(self.limits.idle_timeout_s, lambda: self._idled(slot))

    def _idled(self, slot: _Slot) -> None:
        slot.idle_timer = None
        if not slot.jobs and len(self._slots) > self.limits.min_workers:
            self._retire(slot, "idle")
            self._scale()

    def _retire(self, slot: _Slot, reason: str) -> None:
        if slot not in self._slots:
            return
        self._slots.remove(slot)
        self._note(slot, reason)
        if slot.idle_timer:
            slot.idle_timer.cancel()
        task = asyncio.create_task(self._stop(slot))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _stop(self, slot: _Slot) -> None:
        if slot.starting and not slot.starting.done():
            slot.starting.cancel()
        for task in [*slot.jobs.values()]:
            if task is not asyncio.current_task():
                task.cancel()
        await slot.worker.stop()
        self._note(slot, "stopped")

    def _ended(self, job: Job) -> None:
        """However a job ended: nobody works on it any more, and it waits nowhere."""
        self.finished[job.state] += 1
        if job in self._queue:
            self._queue.remove(job)
        for slot in self._slots:
            task = slot.jobs.get(job.job_id)
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    def _note(self, slot: _Slot, event: str, job_id: str | None = None) -> None:
        self.log.append(LogEntry(self._clock.now(), slot.worker_id, event, job_id))


def _state(slot: _Slot) -> str:
    if not slot.is_healthy:
        return "unhealthy"
    if not slot.is_ready:
        return "initializing"
    return "running" if slot.jobs else "idle"


async def _run_until_chunk(worker: Worker, job: Job) -> None:
    """Run the job until it has a chunk to hand out, or ends without."""
    running = asyncio.ensure_future(worker.run(job))
    chunk = asyncio.ensure_future(job.first_chunk())
    try:
        await asyncio.wait((running, chunk), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (running, chunk):
            task.cancel()
        await asyncio.gather(running, chunk, return_exceptions=True)
