"""A RunPod worker inside this process: a handler, called as the SDK's own loop calls it (runpod 1.12.0, `rp_job`)."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import logging
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from emulator.engine.jobs import Attempt
from emulator.engine.worker import WorkerLost, WorkerSpent
from emulator.runpod import facts
from emulator.runpod.payload import NotJson, RawJson, encode, join
from emulator.runpod.results import finish

logger = logging.getLogger(__name__)

RunpodConfig = dict[str, Any]
"""What `runpod.serverless.start` takes: `handler`, `return_aggregate_stream`, `refresh_worker`, …"""

MAX_STREAMED_BYTES = 256 * 1024 * 1024
"""The emulator's own bound on what one job may stream."""


class JobEvent(dict[str, Any]):
    """What a handler is called with: the job's id, and a copy of its input that is the handler's own."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(id=attempt.job_id, input=copy.deepcopy(attempt.input))
        self.attempt = attempt


def progress_update(job: dict[str, Any], progress: Any) -> None:
    """In place of the SDK's `runpod.serverless.progress_update`, which like it never raises."""
    try:
        if isinstance(job, JobEvent):
            job.attempt.progress(encode(progress))
    except NotJson as error:
        logger.error("job %s: its progress is lost: %s", job["id"], error)


class HandlerWorker:
    """`load` makes the configuration: it is the worker's cold start. `unload` releases what it took."""

    def __init__(
        self, load: Callable[[], Awaitable[RunpodConfig]], unload: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._load, self._unload = load, unload
        self._config: RunpodConfig = {}

    async def start(self) -> None:
        self._config = await self._load()

    async def stop(self) -> None:
        if self._unload:
            await self._unload()

    async def run(self, attempt: Attempt) -> None:
        handler = self._config["handler"]
        event = JobEvent(attempt)
        run = self._run_generator if _is_generator(handler) else self._run_function
        try:
            await run(handler, event, attempt)
        except NotJson as error:
            logger.error("job %s: %s", attempt.job_id, error)
            attempt.fail(str(error))
        except SystemExit as error:
            raise WorkerLost(f"the handler of job {attempt.job_id} called sys.exit({error.code!r})") from None

    async def _run_generator(self, handler: Callable[..., Any], event: dict[str, Any], attempt: Attempt) -> None:
        whole: list[RawJson] = []
        is_aggregated, streamed_bytes = bool(self._config.get("return_aggregate_stream")), 0
        try:
            async with aclosing(_iterate(handler(event))) as outputs:
                async for output in outputs:
                    if isinstance(output, dict) and output.get("error"):
                        finish(attempt, None, str(output["error"]))
                        return
                    chunk = encode(output)
                    streamed_bytes += len(chunk)
                    if streamed_bytes > MAX_STREAMED_BYTES:
                        attempt.fail(
                            f"the job streamed over {MAX_STREAMED_BYTES:,} bytes, more than the emulator keeps"
                        )
                        return
                    if is_aggregated:
                        whole.append(chunk)
                    attempt.add_chunk(chunk)
                    await asyncio.sleep(0)  # the SDK awaits a POST here: others get their turn
        except NotJson:
            raise
        except Exception as error:
            logger.exception("handler of job %s raised", attempt.job_id)
            attempt.fail(f"handler: {error} \ntraceback: {traceback.format_exc()}")
            return
        finish(attempt, join(whole))
        self._recycle_if_asked(self._config)

    async def _run_function(self, handler: Callable[..., Any], event: dict[str, Any], attempt: Attempt) -> None:
        try:
            returned = handler(event)
            output = await returned if inspect.isawaitable(returned) else returned
        except Exception as error:
            logger.exception("handler of job %s raised", attempt.job_id)
            attempt.fail(_exception_text(error, attempt))
            return
        problem, flags = None, dict(self._config)
        if isinstance(output, dict):
            problem = output.pop("error", None)
            flags["refresh_worker"] = output.pop("refresh_worker", None) or flags.get("refresh_worker")
        finish(attempt, None if output == {} else encode(output), problem)
        self._recycle_if_asked(flags)

    def _recycle_if_asked(self, flags: dict[str, Any]) -> None:
        if flags.get("refresh_worker"):
            raise WorkerSpent


def _is_generator(handler: Callable[..., Any]) -> bool:
    return inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler)


def _exception_text(error: Exception, attempt: Attempt) -> str:
    """The JSON text that `run_job` posts."""
    details = {
        "error_type": str(type(error)),
        "error_message": str(error),
        "error_traceback": traceback.format_exc(),
        "hostname": "unknown",
        "worker_id": attempt.job.worker_id,
        "runpod_version": facts.SDK_VERSION,
    }
    return json.dumps(details)


async def _iterate(generator: Any) -> AsyncGenerator[Any, None]:
    if inspect.isasyncgen(generator):
        async with aclosing(generator):
            async for output in generator:
                yield output
    else:
        for output in generator:
            yield output
