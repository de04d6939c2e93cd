"""What a pool asks of a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from emulator.engine.jobs import Attempt


class Worker(Protocol):
    """Serves jobs, several at a time. Made idle; `start` is its cold start."""

    async def start(self) -> None: ...

    async def run(self, attempt: Attempt) -> None:
        """Serve a job until it is final. Cancelled when the job is. Raises `WorkerLost` if the worker died,
        `WorkerSpent` if it wants to be replaced now that the job is over."""

    async def stop(self) -> None: ...


@runtime_checkable
class Killable(Protocol):
    """A worker that outlives this process' interest in it unless it is killed."""

    async def kill(self) -> None:
        """Die at once, without cleaning up. `stop` is still called after it."""


class WorkerLost(Exception):
    """The worker died, and with it every job that it was serving."""


class WorkerSpent(Exception):
    """The worker served this job and is to take no other."""


class WatchedWorker:
    """A worker that may die or fall ill by itself, at any moment. The pool sets `on_lost`, which takes a reason.

    While it is not `is_healthy`, for the reason in `complaint`, it is promised no jobs.
    """

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self.is_healthy = True
        self.complaint = ""
        self.on_lost: Callable[[str], object] = _nothing


def _nothing(*_: object) -> None: ...
