"""A worker that asks for its jobs, and reports on them, from outside: another process, or another machine.

The pool gives it a job only while it asks for one, so that it claims from the same queue as every other worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from emulator.engine.changes import Changes
from emulator.engine.clock import Clock, Timer
from emulator.engine.jobs import Attempt, Job
from emulator.engine.worker import WatchedWorker

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Ask:
    """An open request for up to `count` jobs."""

    count: int
    changes: Changes
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Held:
    """A job that the worker has. `is_forgotten` once it has not been heard of for too long."""

    attempt: Attempt
    is_forgotten: asyncio.Event = field(default_factory=asyncio.Event)
    timer: Timer | None = None

    def heard(self, clock: Clock, silence_s: float) -> None:
        self.stop_counting()
        self.timer = clock.call_later(silence_s, self.is_forgotten.set)

    def stop_counting(self) -> None:
        if self.timer:
            self.timer.cancel()


class PulledWorker(WatchedWorker):
    """Ready when it first asks. It is lost after `silence_s` seconds without a word; so is a job of which it says
    nothing for as long, alone. The pool sets `on_room`, and `on_spent`, which has it replaced."""

    def __init__(self, worker_id: str, clock: Clock, *, silence_s: float) -> None:
        super().__init__(worker_id)
        self.on_room: Callable[[], object] = _nothing
        self.on_spent: Callable[[], object] = _nothing
        self._clock, self._silence_s = clock, silence_s
        self._has_asked = asyncio.Event()
        self._is_over = False
        self._asks: list[_Ask] = []
        self._held: dict[str, _Held] = {}
        self._to_stop: list[str] = []
        self._stop_changes = Changes(clock)
        self._silence: Timer | None = None

    # the pool's side

    async def start(self) -> None:
        await self._has_asked.wait()

    async def run(self, attempt: Attempt) -> None:
        """Wait while the worker has the job. Returns with the job unfinished if the worker does not speak of it."""
        held = self._held.get(attempt.job_id)
        if held is None:
            return
        try:
            await held.is_forgotten.wait()
        finally:
            held.stop_counting()
            if self._held.pop(attempt.job_id, None):
                logger.warning("worker %s no longer speaks of job %s", self.worker_id, attempt.job_id)

    async def stop(self) -> None:
        """Give out nothing more; whoever waits for jobs gets none, at once."""
        self._is_over = True
        if self._silence:
            self._silence.cancel()
        for held in self._held.values():
            held.stop_counting()
        self._held.clear()
        for ask in self._asks:
            ask.changes.announce()
        self._stop_changes.announce()

    @property
    def room(self) -> int:
        """How many jobs it asks for."""
        if self._is_over or not self.is_healthy:
            return 0
        return sum(ask.count - len(ask.attempts) for ask in self._asks)

    def hand(self, attempt: Attempt) -> None:
        """Give it a job, which answers the longest open request. It may be given the same one twice."""
        ask = next(ask for ask in self._asks if len(ask.attempts) < ask.count)
        ask.attempts.append(attempt)
        if attempt.job_id not in self._held:
            held = self._held[attempt.job_id] = _Held(attempt)
            held.heard(self._clock, self._silence_s)
            attempt.job.on_final.append(self._ended)
        ask.changes.announce()

    @property
    def is_over(self) -> bool:
        """Whether it is to end, and gets nothing more."""
        return self._is_over

    # the worker's side

    async def take(self, count: int, hold_s: float) -> list[Attempt]:
        """Up to `count` jobs. If there are none, wait at most `hold_s` seconds for the first."""
        ask = _Ask(count, Changes(self._clock))
        self._asks.append(ask)
        self._has_asked.set()
        self.on_room()
        try:
            if not (ask.attempts or self._is_over):
                await ask.changes.wait(hold_s)
        except asyncio.CancelledError:
            for attempt in ask.attempts:  # they did not reach it
                self.forget(attempt.job_id)
            raise
        finally:
            self._asks.remove(ask)
        return ask.attempts

    async def stops(self, hold_s: float) -> list[str]:
        """The jobs that ended from outside and must not be worked on; waits at most `hold_s` seconds for one."""
        if not (self._to_stop or self._is_over):
            await self._stop_changes.wait(hold_s)
        job_ids, self._to_stop = self._to_stop, []
        return job_ids

    def heard(self, job_ids: Iterable[str] = ()) -> None:
        """A sign of life, of the worker and of those of its jobs that it named.

        A job that it should no longer have it is told to stop, again: it may not have begun it when it was told first.
        """
        if self._is_over:
            return
        if self._silence:
            self._silence.cancel()
        self._silence = self._clock.call_later(self._silence_s, self._fell_silent)
        for job_id in job_ids:
            if held := self._held.get(job_id):
                held.heard(self._clock, self._silence_s)
            else:
                self._tell_to_stop(job_id)

    def complain(self, complaint: str) -> None:
        """It says that it is not well: it gets no jobs until `recover`."""
        self.is_healthy, self.complaint = False, complaint

    def recover(self) -> None:
        if not self.is_healthy:
            self.is_healthy, self.complaint = True, ""
            self.on_room()

    def attempt(self, job_id: str) -> Attempt | None:
        """Its run of a job that it has."""
        held = self._held.get(job_id)
        return held.attempt if held else None

    def report(self, job_id: str) -> None:
        """It has said how the job ended: it need not be told to stop. If nobody heard, the silence begins."""
        self._held.pop(job_id, None)

    def forget(self, job_id: str) -> None:
        """The job did not reach it, or it has let go of it: it runs again, here or elsewhere."""
        if held := self._held.get(job_id):
            held.is_forgotten.set()

    def _ended(self, job: Job) -> None:
        if job.job_id in self._held:
            self.report(job.job_id)
            self._tell_to_stop(job.job_id)

    def _tell_to_stop(self, job_id: str) -> None:
        if job_id not in self._to_stop:
            self._to_stop.append(job_id)
        self._stop_changes.announce()

    def _fell_silent(self) -> None:
        self.on_lost(f"not heard of for {self._silence_s:g} s")


def _nothing(*_: object) -> None: ...
