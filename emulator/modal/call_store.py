"""The calls that are kept: bounded in number, in bytes and in time."""

from __future__ import annotations

from emulator.engine.clock import Clock, Timer
from emulator.modal import facts
from emulator.modal.call import FunctionCall

MAX_CALLS = 50_000
MAX_BYTES = 512 * 1024 * 1024


class CallsFull(Exception):
    """As many calls, or bytes of them, are kept as may be, none of them over."""


class CallStore:
    """A call is kept while any of its inputs runs, and a while longer: a week where it was spawned, else minutes, and
    once its outputs were fetched for good, seconds. Over the bounds, those that have been over for longest go first.
    """

    def __init__(self, clock: Clock, *, max_calls: int = MAX_CALLS, max_bytes: int = MAX_BYTES) -> None:
        self._clock, self._max_calls, self._max_bytes = clock, max_calls, max_bytes
        self._calls: dict[str, FunctionCall] = {}
        self._bytes: dict[str, int] = {}
        self._total_bytes = 0
        self._idle: dict[str, Timer] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, call_id: str) -> FunctionCall | None:
        return self._calls.get(call_id)

    def add(self, call: FunctionCall) -> None:
        """Raises `CallsFull`."""
        self.make_room(calls=1)
        self._calls[call.call_id] = call
        self.changed(call)

    def make_room(self, *, calls: int = 0, size_bytes: int = 0) -> None:
        """For so many more calls, and bytes of inputs. Raises `CallsFull`."""
        while len(self._calls) + calls > self._max_calls or self._total_bytes + size_bytes > self._max_bytes:
            if not self._idle:
                raise CallsFull(f"{len(self._calls)} calls of {self._total_bytes:,} bytes are waiting or running")
            self.drop(next(iter(self._idle)))

    def changed(self, call: FunctionCall) -> None:
        """Inputs came or ended."""
        if call.call_id not in self._calls:
            return
        self._total_bytes += call.size_bytes - self._bytes.get(call.call_id, 0)
        self._bytes[call.call_id] = call.size_bytes
        if call.unfinished:
            self._keep(call)
        elif call.is_fetched:
            self._keep(call, facts.CLEARED_RETENTION_S)
        else:
            self._keep(call, facts.OUTPUT_RETENTION_S if call.is_spawned else facts.UNFETCHED_RETENTION_S)

    def fetched(self, call: FunctionCall) -> None:
        """Its outputs were fetched by somebody who will not ask again."""
        call.is_fetched = True
        self.changed(call)

    def drop(self, call_id: str) -> None:
        self._calls.pop(call_id, None)
        self._total_bytes -= self._bytes.pop(call_id, 0)
        if timer := self._idle.pop(call_id, None):
            timer.cancel()

    def _keep(self, call: FunctionCall, seconds: float | None = None) -> None:
        if timer := self._idle.pop(call.call_id, None):
            timer.cancel()
        if seconds is not None:
            self._idle[call.call_id] = self._clock.call_later(seconds, lambda: self.drop(call.call_id))
