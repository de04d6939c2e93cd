"""What a pool's workers did."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LOG_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What a worker did, and when (seconds of the clock). `detail`: its last words, if it died."""

    at_s: float
    worker_id: str
    event: str
    job_id: str | None = None
    detail: str = ""
