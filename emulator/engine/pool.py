"""The workers of one endpoint: started when jobs wait, stopped when idle, replaced when they die."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from emulator.engine.clock import Clock, sleep
from emulator.engine.faults import Effect, Faults
from emulator.engine.jobs import Attempt, Job, JobState
from emulator.engine.policy import JobPolicy, PoolLimits
from emulator.engine.pulled import PulledWorker
from emulator.engine.queue import JobQueue
from emulator.engine.slot import Slot
from emulator.engine.worker import Worker, WorkerLost, WorkerSpent

__all__ = ["LogEntry", "PoolLimits", "WorkerPool"]

logger = logging.getLogger(__name__)

MAX_LOG_ENTRIES = 10_000
STOP_GRACE_S = 5.0
"""Real seconds that a stopping worker's jobs get to clean up: it is real code that may refuse to end."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What a worker did, and when (seconds of the clock)."""

    at_s: float
    worker_id: str
    event: str
    job_id: str | None = None


class WorkerPool:
    """First in, first out; a job goes to the ready worker that serves the fewest.

    `name` is what fault rules know it by: they match `"name/job id"` and `"name/worker id"`.
    """

    def __init__(
        self,
        make_worker: Callable[[str], Worker],
        limits: PoolLimits,
        clock: Clock,
        *,
        name: str = "",
        policy: JobPolicy | None = None,
        max_queue: int = 10_000,
        faults: Faults | None = None,
    ) -> None:
        self.name, self.limits, self.max_queue = name, limits, max_queue
        self.log: deque[LogEntry] = deque(maxlen=MAX_LOG_ENTRIES)
        self.finished: Counter[JobState] = Counter()
        self.retried = 0
        self._make_worker, self._clock, self._faults = make_worker, clock, faults or Faults()
        self._policy = policy or JobPolicy()
        self._queue = JobQueue()
        self._slots: list[Slot] = []
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
        self.purge()
        for slot in [*self._slots]:
            for attempt in [*slot.jobs]:
                attempt.job.cancel()
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
        """Jobs that run. One that was cancelled no longer does, though its worker may still be cleaning up."""
        return sum(attempt.is_current for slot in self._slots for attempt in slot.jobs)

    def workers(self) -> Counter[str]:
        """How many workers there are by state: initializing, idle, running, unhealthy."""
        return Counter(slot.state for slot in self._slots)

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
        if self._is_closed:
            job.cancel()
            return
        self._queue.push(job)
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
            slot = min(ready, key=lambda s: len(s.jobs))
            attempt = self._queue.pop().start(slot.worker_id)
            if attempt:
                self._run(slot, attempt)
        self._scale()

    def _scale(self) -> None:
        if self._is_closed:
            return
        promised = sum(slot.promise(self.limits.concurrency) for slot in self._slots)
        waiting = self._queue.urgent or (1 if self._queue and not self._slots else 0)
        needed = -(-(waiting - promised) // self.limits.concurrency)
        wanted = max(self.limits.min_workers - len(self._slots), needed)
        for _ in range(min(wanted, self.limits.max_workers - len(self._slots))):
            self._start_worker()

    def _start_worker(self) -> None:
        worker_id = f"worker-{next(self._numbers)}"
        slot = Slot(worker_id, self._make_worker(worker_id))
        if isinstance(slot.worker, PulledWorker):
            slot.worker.on_room = self._dispatch
            slot.worker.on_lost = lambda reason: self._lost(slot, reason)
        self._slots.append(slot)
        self._note(slot, "starting")
        slot.starting = asyncio.create_task(self._start(slot))

    async def _start(self, slot: Slot) -> None:
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
        if self._slots or self._failed_starts < self._policy.max_failed_starts:
            self._scale()
            return
        reason = f"the worker failed to start {self._failed_starts} times: {error}"
        self._failed_starts = 0
        while self._queue:
            self._policy.on_no_worker(self._queue.pop(), reason)

    def _run(self, slot: Slot, attempt: Attempt) -> None:
        slot.stop_waiting()
        self._note(slot, "job", attempt.job_id)
        if isinstance(slot.worker, PulledWorker):
            slot.worker.hand(attempt)
        task = asyncio.create_task(self._serve(slot, attempt))
        slot.jobs[attempt] = task
        task.add_done_callback(lambda _: self._served(slot, attempt))

    async def _serve(self, slot: Slot, attempt: Attempt) -> None:
        timer, timeout_s = None, attempt.job.execution_timeout_s
        if timeout_s is not None:
            timer = self._clock.call_later(timeout_s, lambda: self._policy.on_over_time(attempt))
        try:
            await self._run_with_faults(slot.worker, attempt)
        except WorkerLost as error:
            self._lost(slot, str(error))
        except WorkerSpent:
            slot.is_spent = True
        except asyncio.CancelledError:
            pass  # the job ended from outside, or its worker was lost and it runs again
        except Exception as error:
            logger.exception("worker %s broke", slot.worker_id)
            self._lost(slot, str(error))
        finally:
            if timer:
                timer.cancel()

    async def _run_with_faults(self, worker: Worker, attempt: Attempt) -> None:
        if self._faults.strike(Effect.KILL_BEFORE, attempt.job_id):
            raise WorkerLost("a fault rule, before the job")
        if self._faults.strike(Effect.KILL_DURING, attempt.job_id):
            await _run_until_chunk(worker, attempt)
            raise WorkerLost("a fault rule, during the job")
        await worker.run(attempt)
        if attempt.is_current and self._policy.silence_s and not isinstance(worker, PulledWorker):
            await sleep(self._clock, self._policy.silence_s)  # as long as one that pulls may say nothing
        if self._faults.strike(Effect.KILL_AFTER, attempt.job_id):
            raise WorkerLost("a fault rule, after the job")

    def _served(self, slot: Slot, attempt: Attempt) -> None:
        slot.jobs.pop(attempt, None)
        self._note(slot, "done", attempt.job_id)
        if attempt.is_current:
            self._attempt_again(attempt.job, f"worker {slot.worker_id} said nothing of the job's end")
        self._retire_if_spent(slot)
        self._dispatch()
        self._watch_idleness(slot)

    def _lost(self, slot: Slot, reason: str) -> None:
        logger.warning("worker %s lost: %s", slot.worker_id, reason)
        self._retire(slot, "lost")
        for attempt in [*slot.jobs]:
            if attempt.is_current:
                self._attempt_again(attempt.job, reason)
        self._scale()

    def _retire_if_spent(self, slot: Slot) -> None:
        if slot.is_spent and not slot.jobs:
            self._retire(slot, "recycled")

    def _attempt_again(self, job: Job, reason: str) -> None:
        if job.retries + 1 >= self._policy.max_attempts:
            self._policy.on_lost(job, reason)
        elif job.requeue():
            self.retried += 1
            self._queue.put_back(job)

    def _watch_idleness(self, slot: Slot) -> None:
        if slot in self._slots and not slot.jobs and slot.idle_timer is None:
            slot.idle_timer = self._clock.call_later(self.limits.idle_timeout_s, lambda: self._idled(slot))

    def _idled(self, slot: Slot) -> None:
        slot.idle_timer = None
        if not slot.jobs and len(self._slots) > self.limits.min_workers:
            self._retire(slot, "idle")
            self._scale()

    def _retire(self, slot: Slot, reason: str) -> None:
        if slot not in self._slots:
            return
        self._slots.remove(slot)
        self._note(slot, reason)
        slot.stop_waiting()
        task = asyncio.create_task(self._stop(slot))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _stop(self, slot: Slot) -> None:
        tasks = [*slot.jobs.values(), *([slot.starting] if slot.starting else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            _, stubborn = await asyncio.wait(tasks, timeout=STOP_GRACE_S)
            if stubborn:
                logger.warning("worker %s: %d tasks do not end when cancelled", slot.worker_id, len(stubborn))
        try:
            await slot.worker.stop()
        except Exception:
            logger.exception("worker %s failed to stop", slot.worker_id)
        self._note(slot, "stopped")

    def _ended(self, job: Job) -> None:
        """However a job ended: nobody works on it any more, and it waits nowhere."""
        self.finished[job.state] += 1
        self._queue.discard(job)
        for slot in self._slots:
            task = slot.jobs.get(job.attempt) if job.attempt else None
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    def _note(self, slot: Slot, event: str, job_id: str | None = None) -> None:
        self.log.append(LogEntry(self._clock.now(), slot.worker_id, event, job_id))


async def _run_until_chunk(worker: Worker, attempt: Attempt) -> None:
    """Run the job until it has a chunk to hand out, or ends without."""
    running = asyncio.ensure_future(worker.run(attempt))
    chunk = asyncio.ensure_future(attempt.job.first_chunk())
    try:
        await asyncio.wait((running, chunk), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (running, chunk):
            task.cancel()
        await asyncio.gather(running, chunk, return_exceptions=True)
