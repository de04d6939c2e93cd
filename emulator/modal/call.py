"""A function call: one input, or many of a map, each a job on its function's containers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from modal_proto import api_pb2

from emulator.engine.changes import Changes
from emulator.engine.clock import Clock
from emulator.engine.jobs import Job
from emulator.modal import facts
from emulator.modal.registry import Function
from emulator.modal.results import output_of

Invocation: TypeAlias = api_pb2.FunctionCallInvocationType.ValueType


@dataclass(frozen=True, slots=True)
class Input:
    """What a container is given; the job's input."""

    input_id: str
    function_call_id: str
    idx: int
    message: api_pb2.FunctionInput
    invocation: Invocation
    retry_count: int

    @property
    def method(self) -> str:
        return self.message.method_name


class CallInput:
    """One input of a call, and its latest attempt. `output` is there once that attempt is over."""

    def __init__(self, idx: int, input_id: str) -> None:
        self.idx, self.input_id = idx, input_id
        self.retry_count = 0
        self.job: Job | None = None
        self.output: api_pb2.FunctionGetOutputsItem | None = None


class FunctionCall:
    """`on_change` is told when inputs came or ended."""

    def __init__(
        self,
        call_id: str,
        function: Function,
        clock: Clock,
        *,
        is_map: bool,
        invocation: Invocation,
        on_change: Callable[[FunctionCall], object],
    ) -> None:
        self.call_id, self.function = call_id, function
        self.is_map, self.invocation = is_map, invocation
        self.inputs: dict[int, CallInput] = {}
        self.ended: list[api_pb2.FunctionGetOutputsItem] = []
        """Outputs in the order in which they came; those of attempts that were repeated stay."""
        self.size_bytes = 0
        self._clock, self._on_change = clock, on_change
        self._changes = Changes(clock)

    @property
    def is_spawned(self) -> bool:
        return self.invocation == api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC

    @property
    def unfinished(self) -> int:
        return sum(item.output is None for item in self.inputs.values())

    def add(self, idx: int, input_id: str, message: api_pb2.FunctionInput) -> CallInput:
        item = self.inputs[idx] = CallInput(idx, input_id)
        self._start(item, message)
        return item

    def cancel(self) -> None:
        """End every input that is not over; those that wait for a container never start."""
        for item in self.inputs.values():
            if item.job is not None:
                item.job.cancel()

    def outputs(self, first: int, last: int) -> list[api_pb2.FunctionGetOutputsItem]:
        """The outputs that there are of the inputs `first` to `last`, both included."""
        items = (self.inputs.get(idx) for idx in range(first, min(last, first + facts.MAX_OUTPUTS) + 1))
        return [item.output for item in items if item is not None and item.output is not None]

    async def changed(self, timeout_s: float) -> bool:
        return await self._changes.wait(timeout_s)

    def _start(self, item: CallInput, message: api_pb2.FunctionInput) -> None:
        given = Input(item.input_id, self.call_id, item.idx, message, self.invocation, item.retry_count)
        job_id = item.input_id if not item.retry_count else f"{item.input_id}:{item.retry_count}"
        job = item.job = Job(job_id, given, self._clock, execution_timeout_s=self.function.timeout_s)
        item.output = None
        self.size_bytes += message.ByteSize()
        job.on_final.append(lambda job: self._ended(item, job))
        self._on_change(self)
        self.function.pool.submit(job)

    def _ended(self, item: CallInput, job: Job) -> None:
        output = output_of(job)
        self.size_bytes += output.size_bytes
        item.output = api_pb2.FunctionGetOutputsItem(
            result=output.result,
            idx=item.idx,
            input_id=item.input_id,
            data_format=output.data_format,
            task_id=job.worker_id or "",
            input_started_at=self._clock.time(),
            output_created_at=self._clock.time(),
            retry_count=item.retry_count,
        )
        self.ended.append(item.output)
        self._changes.announce()
        self._on_change(self)
