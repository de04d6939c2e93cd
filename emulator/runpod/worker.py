"""A RunPod worker inside this process: a handler, called as the SDK's own loop calls it (runpod 1.12.0, `rp_job`)."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from emulator.engine.jobs import Attempt
from emulator.runpod import facts
from emulator.runpod.payload import NotJson, RawJson, encode, join

logger = logging.getLogger(__name__)

RunpodConfig = dict[str, Any]
"""What `runpod.serverless.start` takes: `handler`, `return_aggregate_stream`, `concurrency_modifier`."""

MAX_STREAMED_BYTES = 256 * 1024 * 1024
"""The emulator's own bound on what one job may stream."""


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
        event = {"id": attempt.job_id, "input": attempt.input}
        run = self._run_generator if _is_generator(handler) else self._run_function
        try:
            await run(handler, event, attempt)
        except NotJson as error:
            logger.error("job %s: %s", attempt.job_id, error)
            attempt.fail(str(error))

    async def _run_generator(self, handler: Callable[..., Any], event: dict[str, Any], attempt: Attempt) -> None:
        whole: list[RawJson] = []
        is_aggregated, streamed_bytes = bool(self._config.get("return_aggregate_stream")), 0
        try:
            async with aclosing(_iterate(handler(event))) as outputs:
                async for output in outputs:
                    if isinstance(output, dict) and output.get("error"):
                        attempt.fail(_error_text(output["error"], attempt))
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
        self._complete(attempt, join(whole))

    async def _run_function(self, handler: Callable[..., Any], event: dict[str, Any], attempt: Attempt) -> None:
        try:
            result = handler(event)
            output = await result if inspect.isawaitable(result) else result
        except Exception as error:
            logger.exception("handler of job %s raised", attempt.job_id)
            attempt.fail(_exception_text(error, attempt))
            return
        problem = None
        if isinstance(output, dict):
            problem = output.pop("error", None)
            if output.pop("refresh_worker", None):
                logger.warning("job %s: refresh_worker is not emulated, the worker stays", attempt.job_id)
        whole = None if output == {} else encode(output)
        if problem:
            attempt.fail(_error_text(problem, attempt), whole)
        else:
            self._complete(attempt, whole)

    def _complete(self, attempt: Attempt, output: RawJson | None) -> None:
        """RunPod refuses a result above the limit and the client sees COMPLETED without output (runpod-python 309)."""
        limit_bytes = attempt.labels.get("max_output_bytes")
        if output is not None and limit_bytes is not None and len(output) > limit_bytes:
            logger.error(
                "job %s: its output of %s bytes is over RunPod's limit of %s and is lost, as it would be there; chunks "
                "that were streamed are not",
                attempt.job_id,
                f"{len(output):,}",
                f"{limit_bytes:,}",
            )
            output = None
        attempt.complete(output)


def _is_generator(handler: Callable[..., Any]) -> bool:
    return inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler)


def _error_text(error: object, attempt: Attempt) -> str:
    if isinstance(error, str):
        return error
    logger.warning(
        "job %s: its error is no text but %s: RunPod shows such a job as COMPLETED without output (runpod-python 299)",
        attempt.job_id,
        type(error).__name__,
    )
    return str(error)


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
