"""Running a job on a worker to which the fault rules do what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from emulator.engine.clock import Clock, sleep
from emulator.engine.faults import Effect, Faults
from emulator.engine.jobs import Attempt
from emulator.engine.worker import Killable, Worker, WorkerLost


async def run(worker: Worker, attempt: Attempt, faults: Faults, subject: str, clock: Clock) -> None:
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
    await worker.run(attempt)
    if faults.strike(Effect.KILL_AFTER, subject):
        await _die(worker, "a fault rule, after the job")


async def _die(worker: Worker, reason: str) -> None:
    if isinstance(worker, Killable):
        await worker.kill()
    raise WorkerLost(reason)


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
