"""What a pool asks of a worker."""

from __future__ import annotations

from typing import Protocol

from emulator.engine.jobs import Attempt


class Worker(Protocol):
    """Serves jobs, several at a time. Made idle; `start` is its cold start."""

    async def start(self) -> None: ...

    async def run(self, attempt: Attempt) -> None:
        """Serve a job until it is final. Cancelled when the job is. Raises `WorkerLost` if the worker died,
        `WorkerSpent` if it wants to be replaced now that the job is over."""

    async def stop(self) -> None: ...


class WorkerLost(Exception):
    """The worker died, and with it every job that it was serving."""


class WorkerSpent(Exception):
    """The worker served this job and is to take no other."""
