"""Running a job on a worker to which the fault rules do what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from emulator.engine.clock import Clock, sleep
from emulator.engine.faults import Effect, Faults
from emulator.engine.jobs import Attempt
from emulator.engine.worker import Killable, Worker, WorkerLost

OnFault = Callable[[Attempt, str], object]


async def start(worker: Worker, faults: Faults, subject: str, clock: Clock) -> None:
    """As `worker.start`."""
    if rule := faults.strike(Effect.SLOW_START, subject):
        await sleep(clock, rule.value)
    await worker.start()


async def run(
    worker: Worker, attempt: Attempt, faults: Faults, subject: str, clock: Clock, *, on_fault: OnFault
) -> None:
    """As `worker.run`. Raises `WorkerLost` also where a rule kills the worker, and `WorkerSpent`."""
    if not faults.rules:
        await worker.run(attempt)
        return
    if faults.strike(Effect.KILL_BEFORE, subject):
        await _die(worker, "a fault rule, before the job")
    if faults.strike(Effect.KILL_DURING, subject):
        await _run_until(attempt.job.first_chunk(), worker, attempt)
        await _die(worker, "a fault rule, during the job")
    if rule := faults.strike(Effect.OUT_OF_MEMORY, subject):
        begun = sleep(clock, rule.value) if rule.value else asyncio.sleep(0)
        await _run_until(begun, worker, attempt)
        await _die(worker, "a fault rule, out of memory (exit code 137)")
    attempt.is_unheard = faults.strike(Effect.LOSE_RESULT, subject) is not None
    if faults.strike(Effect.FAIL_DURING, subject):
        await _run_and_fail(worker, attempt, on_fault)
    else:
        await worker.run(attempt)
    if faults.strike(Effect.KILL_AFTER, subject):
        await _die(worker, "a fault rule, after the job")


async def _die(worker: Worker, reason: str) -> None:
    if isinstance(worker, Killable):
        await worker.kill()
    raise WorkerLost(reason)


async def _run_and_fail(worker: Worker, attempt: Attempt, on_fault: OnFault) -> None:
    """The job's end, when it comes, cancels the run, as any other does."""

    async def fail() -> None:
        await attempt.job.first_chunk()
        on_fault(attempt, "a fault rule, during the job")

    failing = asyncio.create_task(fail())
    try:
        await worker.run(attempt)
    finally:
        failing.cancel()


async def _run_until(moment: Awaitable[None], worker: Worker, attempt: Attempt) -> None:
    """Run the job until that moment, or until it ends before."""
    running = asyncio.ensure_future(worker.run(attempt))
    waiting = asyncio.ensure_future(moment)
    try:
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
