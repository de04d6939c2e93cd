"""What containers say, by app: for `modal app logs`, and for whoever follows a deploy."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp
from modal_proto import api_pb2

from emulator.engine.changes import Changes
from emulator.engine.clock import Clock
from emulator.modal import facts
from emulator.modal.rpc import Caller, Handlers

LogsRequest: TypeAlias = api_pb2.AppCountLogsRequest | api_pb2.AppFetchLogsRequest | api_pb2.AppGetLogsRequest

MAX_ENTRIES = 10_000
"""Of all apps together."""
MAX_LINE = 16_384


@dataclass(frozen=True, slots=True)
class Entry:
    number: int
    app_id: str
    function_id: str
    task_id: str
    at: float
    """Seconds since 1970."""
    text: str

    def matches(self, request: LogsRequest) -> bool:
        asked = {"app_id": self.app_id, "function_id": self.function_id, "task_id": self.task_id}
        if any(getattr(request, name) not in ("", value) for name, value in asked.items()):
            return False
        return request.search_text in self.text

    def batch(self) -> api_pb2.TaskLogsBatch:
        # one pipe carries stdout and stderr, so that their lines stay in order
        item = api_pb2.TaskLogs(
            data=self.text + "\n",
            timestamp=self.at,
            timestamp_ns=int(self.at * 1e9),
            file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT,
        )
        return api_pb2.TaskLogsBatch(
            entry_id=str(self.number),
            task_id=self.task_id,
            function_id=self.function_id,
            root_function_id=self.function_id,
            items=[item],
        )


class Logs:
    """The last `MAX_ENTRIES` lines."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._changes = Changes(clock)

    def handlers(self) -> Handlers:
        return {"AppCountLogs": self.count, "AppFetchLogs": self.fetch, "AppGetLogs": self.follow}

    def add(self, app_id: str, function_id: str, task_id: str, text: str) -> None:
        number = next(self._numbers)
        self._entries.append(Entry(number, app_id, function_id, task_id, self._clock.time(), text[:MAX_LINE]))
        self._changes.announce()

    async def count(self, request: api_pb2.AppCountLogsRequest, _: Caller) -> api_pb2.AppCountLogsResponse:
        """Lines per `bucket_secs`: the SDK fetches dense times in parts."""
        since, until, width_s = _seconds(request.since), _seconds(request.until), request.bucket_secs or 1
        found = Counter(
            int((entry.at - since) // width_s)
            for entry in self._entries
            if entry.matches(request) and since <= entry.at < until
        )
        buckets = [
            api_pb2.AppCountLogsResponse.LogBucket(bucket_start_at=_timestamp(since + n * width_s), stdout_logs=lines)
            for n, lines in sorted(found.items())
        ]
        return api_pb2.AppCountLogsResponse(app_id=request.app_id, buckets=buckets)

    async def fetch(self, request: api_pb2.AppFetchLogsRequest, _: Caller) -> api_pb2.AppFetchLogsResponse:
        since, until = _seconds(request.since), _seconds(request.until)
        found = [entry for entry in self._entries if entry.matches(request) and since <= entry.at <= until]
        return api_pb2.AppFetchLogsResponse(batches=_batches(found[-(request.limit or MAX_ENTRIES) :]))

    async def follow(self, request: api_pb2.AppGetLogsRequest, _: Caller) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        """The lines after `last_entry_id`, and those that come within `timeout` seconds."""
        last = int(request.last_entry_id) if request.last_entry_id.isdecimal() else 0
        give_up_at = self._clock.now() + min(request.timeout, facts.OUTPUTS_WAIT_S)
        while True:
            for entry in [entry for entry in self._entries if entry.number > last and entry.matches(request)]:
                last = entry.number
                yield entry.batch()
            remaining_s = give_up_at - self._clock.now()
            if remaining_s <= 0 or not await self._changes.wait(remaining_s):
                return


def _batches(entries: Iterable[Entry]) -> list[api_pb2.TaskLogsBatch]:
    return [entry.batch() for entry in entries]


def _seconds(moment: Timestamp) -> float:
    return float(moment.seconds + moment.nanos / 1e9)


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
