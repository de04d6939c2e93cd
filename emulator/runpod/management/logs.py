"""A worker's log as server-sent events: what is there, then what comes [V2]."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from emulator.engine.clock import Clock, sleep
from emulator.runpod.management import rules
from emulator.runpod.management.problems import Problem
from yapit.asgi import StreamedResponse

POLL_S = 0.25
SOURCES = ("container", "system")
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # [V2]


@dataclass(frozen=True, slots=True)
class LogLine:
    """`at_s`: seconds since 1970, in whole microseconds as `event` tells them. `source`: one of `SOURCES`."""

    at_s: float
    source: str
    text: str

    @property
    def event(self) -> bytes:
        at = datetime.fromtimestamp(self.at_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        data = json.dumps({"source": self.source, "line": self.text, "ts": at})
        return f"id: {at}\ndata: {data}\n\n".encode()


def stream_logs(request: Request, read: Callable[[], list[LogLine]], clock: Clock) -> Response:
    """The log that `read` gives, as far as the request asks for it, until the client leaves. Raises `Problem`."""
    source = request.query_params.get("source")
    if source is not None and source not in SOURCES:
        raise Problem(400, f"source must be {' or '.join(SOURCES)}, found {source!r}")
    resumes_at = request.headers.get("last-event-id") or request.query_params.get("since")
    lines = read()
    if resumes_at:
        first = sum(line.at_s <= _seconds(resumes_at) for line in lines)
    else:
        first = max(0, len(lines) - _tail(request))
    return StreamedResponse(_events(first, source, read, clock), media_type="text/event-stream", headers=_HEADERS)


async def _events(
    seen: int, source: str | None, read: Callable[[], list[LogLine]], clock: Clock
) -> AsyncGenerator[bytes, None]:
    while True:
        try:
            lines = read()
        except Problem:
            return  # its endpoint was deleted
        for line in lines[seen:]:
            if source in (None, line.source):
                yield line.event
        seen = len(lines)
        await sleep(clock, POLL_S)


def _tail(request: Request) -> int:
    value = request.query_params.get("tail", str(rules.LOG_TAIL_LINES))
    if not value.isdecimal() or int(value) > rules.LOG_TAIL_MAX:
        raise Problem(400, f"tail must be 0 to {rules.LOG_TAIL_MAX}, found {value!r}")
    return int(value)


def _seconds(moment: str) -> float:
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        raise Problem(400, f"not an RFC 3339 timestamp: {moment!r}") from None
