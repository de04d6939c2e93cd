"""A container: Modal's own runtime in a process group of this machine, known by the unix socket that it talks to.

It asks for inputs, so it is a worker that pulls. Its cold start is the runtime's: import, `enter(snap=True)`,
checkpoint, restore, the other `enter`s, and the first question for an input.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from emulator.engine.clock import Clock, Timer
from emulator.engine.jobs import Attempt
from emulator.engine.process import ProcessGroup
from emulator.engine.pulled import PulledWorker
from emulator.modal import facts
from emulator.modal.container_files import ENTRYPOINT, ContainerFiles, Program
from emulator.modal.results import Output, StartFailed, failure
from emulator.modal.rpc import RpcServer


@dataclass(eq=False, slots=True)
class Held:
    """An input that the container has been given and has not answered. `chunks`: how many it has streamed."""

    attempt: Attempt
    chunks: int = 0
    is_stopped: bool = False
    patience: Timer | None = None


class Container(PulledWorker):
    """`worker_id` is the pool's name for it, `task_id` Modal's. `serve` makes its own API; `say` is told each line that
    it prints."""

    def __init__(
        self,
        worker_id: str,
        task_id: str,
        clock: Clock,
        program: Program,
        *,
        make_files: Callable[[], ContainerFiles],
        serve: Callable[[Container], RpcServer],
        say: Callable[[str], object],
        on_end: Callable[[], object],
    ) -> None:
        super().__init__(worker_id, clock, silence_s=facts.SILENCE_S)
        self.task_id, self.program, self.made_at = task_id, program, clock.time()
        self.held: dict[str, Held] = {}
        self.files: ContainerFiles | None = None
        self._make_files, self._say, self._on_end, self._api = make_files, say, on_end, serve(self)
        self._group: ProcessGroup | None = None
        self._failure = asyncio.Event()
        self._result: Output | None = None
        self._is_ready = False

    # the pool's side

    async def start(self) -> None:
        """Raises `StartFailed`."""
        self.files = await asyncio.to_thread(self._make_files)
        await self._api.listen_at(str(self.files.socket))
        command = (sys.executable, "-c", ENTRYPOINT)
        self._group = await ProcessGroup.start(
            self.task_id, command, self.files.environment(), folder=self.files.workdir, on_line=self._say
        )
        self._group.ended.add_done_callback(lambda _: self._process_ended())
        too_long = asyncio.Event()
        timer = self._clock.call_later(self.program.startup_timeout_s, too_long.set)
        waits = [asyncio.ensure_future(wait) for wait in (super().start(), self._failure.wait(), too_long.wait())]
        try:
            await asyncio.wait((*waits, self._group.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if self._result is not None:
            raise StartFailed(self._result)
        if self._group.ended.done():
            raise StartFailed(failure(self._group.obituary))
        if not self._has_asked.is_set():
            raise StartFailed(failure(facts.STARTUP_TIMEOUT.format(self.program.startup_timeout_s)))
        self._is_ready = True

    async def kill(self) -> None:
        if self._group:
            self._group.kill()

    async def stop(self) -> None:
        """Let it run its exit hooks, then end what is left of it. One that still has inputs is interrupted first."""
        is_busy = any(not held.is_stopped for held in self.held.values())
        await super().stop()
        for held in self.held.values():
            _give_up(held)
        if self._group:
            if is_busy or not self._is_ready:
                self._group.interrupt()
            await self._group.wait(facts.EXIT_GRACE_S if self._is_ready else 0.0)
            await self._group.end()
        await self._api.close()
        if self.files:
            await asyncio.to_thread(self.files.close)
        self._on_end()

    def hand(self, attempt: Attempt) -> None:
        super().hand(attempt)
        self.held[attempt.input.input_id] = Held(attempt)

    # the container's side

    def failed(self, result: Output) -> None:
        """It could not start; how."""
        self._result = result
        self._failure.set()

    def alive(self) -> None:
        """It was heard of, and so were the inputs that it has: the runtime vouches for all of them at once."""
        self.heard(held.attempt.job_id for held in self.held.values() if not held.is_stopped)

    async def stopped_inputs(self, hold_s: float) -> list[str]:
        """The inputs that it is to stop. One that it does not stop in time takes the container with it (a bug of
        Modal's that people report, modal-client#4125)."""
        job_ids = set(await self.stops(hold_s))
        stopped = [held for held in self.held.values() if held.attempt.job_id in job_ids]
        for held in stopped:
            held.is_stopped = True
            if held.patience is None:
                held.patience = self._clock.call_later(facts.CANCEL_GRACE_S, self._did_not_stop)
        return [held.attempt.input.input_id for held in stopped]

    def answered(self, input_id: str, retry_count: int) -> Attempt | None:
        """It has said how an input ended: the attempt that this is about, if it had been given it."""
        held = self.held.get(input_id)
        if held is None or held.attempt.input.retry_count != retry_count:
            return None
        _give_up(self.held.pop(input_id))
        return held.attempt

    def of_call(self, function_call_id: str) -> Held | None:
        """Its input of that call. A call that streams has one."""
        found = (held for held in self.held.values() if held.attempt.input.function_call_id == function_call_id)
        return next(found, None)

    def take_back(self, attempts: Iterable[Attempt]) -> None:
        """They did not reach it, or it has let go of them."""
        for attempt in attempts:
            self.held.pop(attempt.input.input_id, None)
            self.forget(attempt.job_id)

    def _did_not_stop(self) -> None:
        if not self._is_over:
            self.on_lost(f"an input did not stop within {facts.CANCEL_GRACE_S:g} s of its cancellation")

    def _process_ended(self) -> None:
        if self._group and self._is_ready and not self._is_over:
            self.on_lost(self._group.obituary)


def _give_up(held: Held) -> None:
    if held.patience:
        held.patience.cancel()
