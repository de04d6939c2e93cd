"""The workers of one endpoint: started when jobs wait, stopped when idle, replaced when they die."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable

from emulator.engine import fated
from emulator.engine.clock import Clock, sleep
from emulator.engine.faults import Effect, Faults
from emulator.engine.jobs import FOREVER_S, Attempt, Job, JobState
from emulator.engine.log import MAX_LOG_ENTRIES, LogEntry
from emulator.engine.policy import JobPolicy, PoolLimits, StartsFailed
from emulator.engine.pulled import PulledWorker
from emulator.engine.queue import JobQueue
from emulator.engine.scaling import kept_workers, missing_workers
from emulator.engine.slot import Slot, Slots
from emulator.engine.worker import WatchedWorker, Worker, WorkerLost, WorkerSpent

__all__ = ["LogEntry", "PoolLimits", "WorkerPool"]

logger = logging.getLogger(__name__)

STOP_GRACE_S = 5.0
"""Real seconds that a stopping worker's jobs get to clean up: it is real code that may refuse to end."""


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
        self.name, self._limits, self.max_queue = name, limits, max_queue
        self.log: deque[LogEntry] = deque(maxlen=MAX_LOG_ENTRIES)
        self.finished: Counter[JobState] = Counter()
        self.retried = 0
        self._make_worker, self._clock, self._faults = make_worker, clock, faults or Faults()
        self._policy = policy or JobPolicy()
        self._queue = JobQueue()
        self._slots = Slots()
        self._running: set[Job] = set()
        self._tasks: dict[Job, set[asyncio.Task[None]]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._failed_starts = 0
        self._is_closed = False
        self._heir: WorkerPool | None = None

    def open(self) -> None:
        """Start the workers that are always there."""
        self._scale()

    async def close(self) -> None:
        """Stop every worker; running jobs end as cancelled."""
        self._is_closed = True
        self.purge()
        for slot in self._slots:
            for attempt in [*slot.jobs]:
                attempt.job.cancel()
            self._retire(slot, "closed")
        while self._stopping:
            await asyncio.gather(*self._stopping, return_exceptions=True)

    def hand_over(self, heir: WorkerPool) -> None:
        """Start no worker any more: jobs that wait, and those that come, are the heir's; those that run end here, and
        their workers with them."""
        self._is_closed, self._heir = True, heir
        for job in list(self._queue):
            self._queue.discard(job)
            job.on_final.remove(self._ended)
            heir.submit(job)
        for slot in self._slots:
            self.recycle(slot.worker_id)

    @property
    def limits(self) -> PoolLimits:
        """New ones hold for what begins from now on."""
        return self._limits

    @limits.setter
    def limits(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._slots.may_have_room(*self._slots)
        for slot in [slot for slot in self._slots if slot.is_ready and not slot.jobs]:
            slot.stop_waiting()  # it may be one too many now, or idle for too long
            self._watch_idleness(slot)

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= self.max_queue

    @property
    def is_empty(self) -> bool:
        """Whether it has no workers, not even such as are stopping."""
        return not (self._slots or self._stopping)

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        """Jobs that run. One that was cancelled no longer does, though its worker may still be cleaning up."""
        return len(self._running)

    def workers(self) -> Counter[str]:
        """How many workers there are by state: throttled, initializing, idle, running, unhealthy."""
        return Counter(slot.state for slot in self._slots)

    def states(self) -> dict[str, str]:
        """Each worker's state by its id, in the order in which they were started."""
        return {slot.worker_id: slot.state for slot in self._slots}

    def worker(self, worker_id: str) -> Worker | None:
        slot = self._slots.get(worker_id)
        return slot.worker if slot else None

    def recycle(self, worker_id: str) -> None:
        """Replace a worker once the jobs that it has are over."""
        if slot := self._slots.get(worker_id):
            slot.is_spent = True
            self._retire_if_spent(slot)
            self._scale()

    def lose(self, worker_id: str, reason: str) -> None:
        """A worker is killed; what it ran runs again elsewhere."""
        if slot := self._slots.get(worker_id):
            self._lost(slot, reason)

    def submit(self, job: Job) -> None:
        """Queue a job and see to it that it runs."""
        if self._ended not in job.on_final:
            job.on_final.append(self._ended)
        if self._heir:
            self._heir.submit(job)
            return
        if self._is_closed:
            job.cancel()
            return
        if rule := self._faults.strike(Effect.STUCK, self._subject(job.job_id)):
            self._queue.withhold(job)
            if rule.value:
                self._clock.call_later(rule.value, lambda: self._release(job))
            return
        self._queue.push(job)
        self._dispatch()

    def _release(self, job: Job) -> None:
        self._queue.release(job)
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
        concurrency = self._limits.concurrency
        while self._queue.ready and (slot := self._slots.roomiest(concurrency)):
            attempt = self._queue.pop().start(slot.worker_id)
            if attempt is None:
                continue
            self._running.add(attempt.job)
            self._run(slot, attempt)
            if not self._faults.rules or not (other := self._slots.roomiest(concurrency, but=slot)):
                continue
            if self._faults.strike(Effect.DUPLICATE, self._subject(attempt.job_id)):
                self._run(other, attempt.twin(other.worker_id))
        self._scale()

    def _has_room(self, slot: Slot) -> None:
        self._slots.may_have_room(slot)
        self._dispatch()

    def _scale(self) -> None:
        if not self._is_closed:
            for _ in range(missing_workers(self._limits, self._queue, self._slots, self.running)):
                self._start_worker()

    def _start_worker(self) -> None:
        worker_id = f"worker-{next(self._numbers)}"
        slot = Slot(worker_id, self._make_worker(worker_id))
        if isinstance(slot.worker, WatchedWorker):
            slot.worker.on_lost = lambda reason: self._lost(slot, reason)
        if isinstance(slot.worker, PulledWorker):
            slot.worker.on_room = lambda: self._has_room(slot)
            slot.worker.on_spent = lambda: self.recycle(worker_id)
        self._slots.add(slot)
        self._note(slot, "starting")
        slot.starting = asyncio.create_task(self._start(slot))

    async def _start(self, slot: Slot) -> None:
        try:
            await self._await_capacity(slot)
            await fated.start(slot.worker, self._faults, self._subject(slot.worker_id), self._clock)
        except Exception as error:
            logger.error("worker %s failed to start: %s", slot.worker_id, error)
            self._failed_starts += 1
            self._retire(slot, "failed to start", str(error))
            self._give_up_after_failed_start(error)
            return
        self._failed_starts = 0
        slot.is_ready = True
        self._note(slot, "ready")
        self._has_room(slot)
        self._watch_idleness(slot)

    async def _await_capacity(self, slot: Slot) -> None:
        if rule := self._faults.strike(Effect.THROTTLE, self._subject(slot.worker_id)):
            slot.is_throttled = True
            self._note(slot, "throttled")
            await sleep(self._clock, rule.value or FOREVER_S)
            slot.is_throttled = False

    def _give_up_after_failed_start(self, error: Exception) -> None:
        """A crash loop would run for ever: the jobs that waited for it fail, saying why."""
        if self._failed_starts < self._policy.max_failed_starts:
            self._scale()
        elif not self._slots:
            reason = StartsFailed(self._failed_starts, error)
            self._failed_starts = 0
            while self._queue.ready:
                self._policy.on_no_worker(self._queue.pop(), reason)

    def _run(self, slot: Slot, attempt: Attempt) -> None:
        slot.stop_waiting()
        self._note(slot, "job", attempt.job_id)
        if isinstance(slot.worker, PulledWorker):
            slot.worker.hand(attempt)
        task = asyncio.create_task(self._serve(slot, attempt))
        slot.jobs[attempt] = task
        self._tasks.setdefault(attempt.job, set()).add(task)
        task.add_done_callback(lambda _: self._served(slot, attempt))

    async def _serve(self, slot: Slot, attempt: Attempt) -> None:
        timer, timeout_s = None, attempt.job.execution_timeout_s
        if timeout_s is not None:
            timer = self._clock.call_later(timeout_s, lambda: self._over_time(attempt))
        try:
            given = (slot.worker, attempt, self._faults, self._subject(attempt.job_id), self._clock)
            await fated.run(*given, on_fault=self._policy.on_fault)
            if attempt.is_current and self._policy.silence_s and not isinstance(slot.worker, PulledWorker):
                await sleep(self._clock, self._policy.silence_s)  # as long as one that pulls may say nothing
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

    def _over_time(self, attempt: Attempt) -> None:
        if attempt.is_current:
            self._policy.on_over_time(attempt.job)

    def _served(self, slot: Slot, attempt: Attempt) -> None:
        task = slot.jobs.pop(attempt)
        tasks = self._tasks[attempt.job]
        tasks.discard(task)
        if not tasks:
            del self._tasks[attempt.job]
        self._note(slot, "done", attempt.job_id)
        if attempt.is_current and not tasks:
            self._attempt_again(attempt.job, f"worker {slot.worker_id} said nothing of the job's end")
        self._retire_if_spent(slot)
        self._has_room(slot)
        self._watch_idleness(slot)

    def _lost(self, slot: Slot, reason: str) -> None:
        logger.warning("worker %s lost: %s", slot.worker_id, reason)
        self._retire(slot, "lost", reason)
        for attempt in [*slot.jobs]:
            elsewhere = self._tasks[attempt.job].difference(slot.jobs.values())
            if attempt.is_current and not elsewhere:
                self._attempt_again(attempt.job, reason)
        self._dispatch()

    def _retire_if_spent(self, slot: Slot) -> None:
        if slot.is_spent and not slot.jobs:
            self._retire(slot, "recycled")

    def _attempt_again(self, job: Job, reason: str) -> None:
        if job.retries + 1 >= self._policy.max_attempts:
            self._policy.on_lost(job, reason)
        elif job.requeue():
            self.retried += 1
            self._running.discard(job)
            if self._heir:
                job.on_final.remove(self._ended)
                self._heir.submit(job)
            else:
                self._queue.put_back(job)

    def _watch_idleness(self, slot: Slot) -> None:
        if slot in self._slots and not slot.jobs and slot.idle_timer is None:
            slot.idle_timer = self._clock.call_later(self.limits.idle_timeout_s, lambda: self._idled(slot))

    def _idled(self, slot: Slot) -> None:
        slot.idle_timer = None
        if not slot.jobs and len(self._slots) > kept_workers(self._limits, self._queue, self.running):
            self._retire(slot, "idle")
            self._scale()
        elif self.limits.buffer_workers:  # it is kept for as long as there is work, which may be over by then
            self._watch_idleness(slot)

    def _retire(self, slot: Slot, reason: str, detail: str = "") -> None:
        if not self._slots.remove(slot):
            return
        self._note(slot, reason, detail=detail)
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
        self._running.discard(job)
        for task in self._tasks.get(job, ()):
            if task is not asyncio.current_task():
                task.cancel()

    def _subject(self, name: str) -> str:
        return f"{self.name}/{name}"

    def _note(self, slot: Slot, event: str, job_id: str | None = None, detail: str = "") -> None:
        self.log.append(LogEntry(self._clock.now(), slot.worker_id, event, job_id, detail))
