"""How an input ended, as Modal says it."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message
from modal_proto import api_pb2

from emulator.engine.jobs import Attempt, Job, JobState
from emulator.engine.policy import JobPolicy, StartsFailed
from emulator.modal import facts
from emulator.modal.protocol import CBOR

Result = api_pb2.GenericResult


@dataclass(frozen=True, slots=True)
class Output:
    """What a container says of an input that it has served. Becomes the job's output."""

    result: Result
    data_format: api_pb2.DataFormat.ValueType

    @property
    def size_bytes(self) -> int:
        return int(self.result.ByteSize())


@dataclass(frozen=True, slots=True)
class Chunk:
    """One item of a generator, in the form in which it travels: inline, or in a blob."""

    data: bytes = b""
    data_blob_id: str = ""
    data_format: api_pb2.DataFormat.ValueType = CBOR

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def message(self, index: int) -> api_pb2.DataChunk:
        chunk = api_pb2.DataChunk(index=index, data_format=self.data_format)
        if self.data_blob_id:
            chunk.data_blob_id = self.data_blob_id
        else:
            chunk.data = self.data
        return chunk


class StartFailed(Exception):
    """A container could not start. `output` is what the inputs that wait for it are told."""

    def __init__(self, output: Output) -> None:
        super().__init__(output.result.exception)
        self.output = output


def success(data: bytes | Message, data_format: api_pb2.DataFormat.ValueType = CBOR) -> Output:
    payload = data.SerializeToString() if isinstance(data, Message) else data
    return Output(Result(status=Result.GENERIC_STATUS_SUCCESS, data=payload), data_format)


def success_in_blob(blob_id: str) -> Output:
    return Output(Result(status=Result.GENERIC_STATUS_SUCCESS, data_blob_id=blob_id), CBOR)


def failure(exception: str, traceback: str = "") -> Output:
    """A failure of the user's code. CBOR has no form for exceptions: its words are all that travels [SDK]."""
    return Output(Result(status=Result.GENERIC_STATUS_FAILURE, exception=exception, traceback=traceback), CBOR)


def cancelled() -> Output:
    return Output(Result(status=Result.GENERIC_STATUS_TERMINATED, exception=facts.CANCELLED), CBOR)


def output_of(job: Job) -> Output:
    """How a job that is over ended: as its container said, or as became of it without one."""
    if isinstance(job.output, Output):
        return job.output
    if job.state is JobState.CANCELLED:
        return cancelled()
    is_timeout = job.state is JobState.TIMED_OUT
    status = Result.GENERIC_STATUS_TIMEOUT if is_timeout else Result.GENERIC_STATUS_INTERNAL_FAILURE
    return Output(Result(status=status, exception=job.error or ""), CBOR)


def _lost(job: Job, reason: str) -> None:
    job.fail(f"{facts.LOST}: {reason}")


def _over_time(job: Job) -> None:
    job.time_out(facts.TIMEOUT.format(job.execution_timeout_s))


def _broken_by_rule(attempt: Attempt, reason: str) -> None:
    attempt.fail(reason, failure(f"Exception({reason!r})"))


def _no_container(job: Job, error: StartsFailed) -> None:
    cause = error.__cause__
    job.fail(str(error), cause.output if isinstance(cause, StartFailed) else failure(str(error)))


POLICY = JobPolicy(
    max_attempts=facts.LOST_ATTEMPTS,
    max_failed_starts=facts.FAILED_STARTS,
    on_lost=_lost,
    on_over_time=_over_time,
    on_fault=_broken_by_rule,
    on_no_worker=_no_container,
)
