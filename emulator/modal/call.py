"""A function call: one input, or many of a map, each a job on its function's containers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from modal_proto import api_pb2

from emulator.engine.changes import Changes
from emulator.engine.clock import Clock, Timer
from emulator.engine.jobs import Job
from emulator.modal import facts
from emulator.modal.registry import Function
from emulator.modal.results import Output, Result, cancelled, output_of
from emulator.modal.web_exchange import WebExchange

Invocation: TypeAlias = api_pb2.FunctionCallInvocationType.ValueType
_RETRIED = (Result.GENERIC_STATUS_FAILURE, Result.GENERIC_STATUS_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Input:
    """What a container is given; the job's input. `web` is there for requests to web methods, and only then."""

    input_id: str
    function_call_id: str
    idx: int
    message: api_pb2.FunctionInput
    invocation: Invocation
    retry_count: int
    web: WebExchange | None = None

    @property
    def method(self) -> str:
        return self.message.method_name


class CallInput:
    """One input of a call, and its latest attempt. `output` is there once it is over."""

    def __init__(self, idx: int, input_id: str, message: api_pb2.FunctionInput, job: Job) -> None:
        self.idx, self.input_id, self.message, self.job = idx, input_id, message, job
        self.retry_count = 0
        self.retry_timer: Timer | None = None
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
        self.unfinished = 0
        self.size_bytes = 0
        self.is_fetched = False
        """Whether its outputs were fetched by somebody who will not ask again."""
        self._clock, self._on_change = clock, on_change
        self._changes = Changes(clock)

    @property
    def is_spawned(self) -> bool:
        return self.invocation == api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC

    def add(self, idx: int, input_id: str, message: api_pb2.FunctionInput, web: WebExchange | None = None) -> CallInput:
        given = Input(input_id, self.call_id, idx, message, self.invocation, 0, web)
        item = self.inputs[idx] = CallInput(idx, input_id, message, self._job(input_id, given))
        self.size_bytes += message.ByteSize()
        self.unfinished += 1
        self._submit(item)
        return item

    def retry(self, item: CallInput, message: api_pb2.FunctionInput, retry_count: int) -> None:
        """Run an input that is over once more."""
        if item.output is not None:
            item.output = None
            self.unfinished += 1
            self._again(item, message, retry_count)

    def cancel(self, *, kill_containers: bool = False) -> None:
        """End every input that is not over; those that wait for a container never start.

        With `kill_containers` what runs beside them is begun again in another container.
        """
        for item in self.inputs.values():
            worker_id = item.job.worker_id
            if item.retry_timer:
                item.retry_timer.cancel()
                item.retry_timer = None
                self._finish(item, cancelled())
            elif item.job.cancel() and kill_containers and worker_id is not None:
                self.function.pool.lose(worker_id, "a call was cancelled together with its containers")

    def outputs(self, first: int, last: int) -> list[api_pb2.FunctionGetOutputsItem]:
        """The outputs that there are of the inputs `first` to `last`, both included."""
        return [item.output for item in self._between(first, last) if item.output is not None]

    def is_pending(self, first: int, last: int) -> bool:
        """Whether outputs of those inputs are still to come."""
        return any(item.output is None for item in self._between(first, last))

    async def changed(self, timeout_s: float) -> bool:
        return await self._changes.wait(timeout_s)

    def _between(self, first: int, last: int) -> list[CallInput]:
        return [self.inputs[idx] for idx in range(first, min(last, first + len(self.inputs)) + 1) if idx in self.inputs]

    def _job(self, job_id: str, given: Input) -> Job:
        return Job(job_id, given, self._clock, execution_timeout_s=self.function.settings.timeout_s)

    def _again(self, item: CallInput, message: api_pb2.FunctionInput, retry_count: int) -> None:
        item.message, item.retry_count = message, retry_count
        given = Input(item.input_id, self.call_id, item.idx, message, self.invocation, retry_count)
        item.job = self._job(f"{item.input_id}:{retry_count}", given)
        self._submit(item)

    def _submit(self, item: CallInput) -> None:
        item.job.on_final.append(lambda job: self._ended(item, job))
        self._on_change(self)
        self.function.pool.submit(item.job)

    def _ended(self, item: CallInput, job: Job) -> None:
        output = output_of(job)
        policy = self.function.settings.retry_policy
        if self.is_spawned and output.result.status in _RETRIED and item.retry_count < policy.retries:
            delay_s = retry_delay_s(policy, item.retry_count + 1)
            item.retry_timer = self._clock.call_later(delay_s, lambda: self._retry_spawned(item))
        else:
            self._finish(item, output)

    def _retry_spawned(self, item: CallInput) -> None:
        """Nobody waits for a spawned call, so it is retried here; of the others the SDK takes care."""
        item.retry_timer = None
        self._again(item, item.message, item.retry_count + 1)

    def _finish(self, item: CallInput, output: Output) -> None:
        job, now_s, now = item.job, self._clock.now(), self._clock.time()
        item.output = api_pb2.FunctionGetOutputsItem(
            result=output.result,
            idx=item.idx,
            input_id=item.input_id,
            data_format=output.data_format,
            task_id=job.worker_id or "",
            input_started_at=now - (now_s - (job.started_at or now_s)),
            output_created_at=now,
            retry_count=item.retry_count,
        )
        self.unfinished -= 1
        self.size_bytes += job.held_bytes
        self.ended.append(item.output)
        self._changes.announce()
        self._on_change(self)


def retry_delay_s(policy: api_pb2.FunctionRetryPolicy, attempt: int) -> float:
    """How long to wait before the `attempt`-th retry [SDK: RetryManager]."""
    delay_ms = policy.initial_delay_ms * policy.backoff_coefficient ** (attempt - 1)
    longest_ms = policy.max_delay_ms or delay_ms
    return float(max(facts.MIN_RETRY_DELAY_MS, min(delay_ms, longest_ms))) / 1000
