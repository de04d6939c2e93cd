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

from emulator.engine.jobs import Job
from emulator.engine.worker import WorkerSpent
from emulator.runpod import facts
from emulator.runpod.results import finish, output_limit_bytes, refuse_oversize

logger = logging.getLogger(__name__)

RunpodConfig = dict[str, Any]
"""What `runpod.serverless.start` takes: `handler`, `return_aggregate_stream`, `refresh_worker`, …"""


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

    async def run(self, job: Job) -> None:
        handler = self._config["handler"]
        event = {"id": job.job_id, "input": job.input}
        if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
            await self._run_generator(handler, event, job)
        else:
            await self._run_function(handler, event, job)

    async def _run_generator(self, handler: Callable[..., Any], event: dict[str, Any], job: Job) -> None:
        whole: list[Any] = []
        size_bytes = 0
        is_aggregated = bool(self._config.get("return_aggregate_stream"))
        try:
            async with aclosing(_iterate(handler(event))) as outputs:
                async for output in outputs:
                    if isinstance(output, dict) and output.get("error"):
                        finish(job, {"error": str(output["error"])})
                        return
                    output_bytes = _size_bytes(output, job)
                    if output_bytes is None:
                        return
                    if is_aggregated:
                        whole.append(output)
                        size_bytes += output_bytes
                    job.add_chunk(output)
        except Exception as error:
            logger.exception("handler of job %s raised", job.job_id)
            finish(job, {"error": f"handler: {error} \ntraceback: {traceback.format_exc()}"})
            return
        _finish_within_limit(job, {"output": whole}, size_bytes)
        self._recycle_if_asked(self._config)

    async def _run_function(self, handler: Callable[..., Any], event: dict[str, Any], job: Job) -> None:
        result: dict[str, Any] = {}
        flags: dict[str, Any] = {**self._config}
        try:
            returned = handler(event)
            output = await returned if inspect.isawaitable(returned) else returned
        except Exception as error:
            logger.exception("handler of job %s raised", job.job_id)
            finish(job, {"error": json.dumps(_details(error, job))})
            return
        if isinstance(output, dict):
            result["error"] = output.pop("error", None)
            flags["refresh_worker"] = output.pop("refresh_worker", None) or flags.get("refresh_worker")
        if output != {}:
            result["output"] = output
        size_bytes = _size_bytes(result, job)
        if size_bytes is not None:
            _finish_within_limit(job, result, size_bytes)
            self._recycle_if_asked(flags)

    def _recycle_if_asked(self, flags: dict[str, Any]) -> None:
        if flags.get("refresh_worker"):
            raise WorkerSpent


def _details(error: Exception, job: Job) -> dict[str, Any]:
    """How the SDK tells of an exception, as JSON text."""
    return {
        "error_type": str(type(error)),
        "error_message": str(error),
        "error_traceback": traceback.format_exc(),
        "hostname": "unknown",
        "worker_id": job.worker_id,
        "runpod_version": facts.SDK_VERSION,
    }


def _finish_within_limit(job: Job, result: dict[str, Any], size_bytes: int) -> None:
    if size_bytes > output_limit_bytes(job):
        refuse_oversize(job)
    else:
        finish(job, result)


def _size_bytes(output: Any, job: Job) -> int | None:
    """How large the output is as JSON. The SDK logs one that is not JSON and posts nothing, so that the job never
    ends; here it fails and says why, and there is no size."""
    try:
        return len(json.dumps(output))
    except (TypeError, ValueError) as error:
        logger.error("job %s: output is not JSON and would be lost at RunPod: %s", job.job_id, error)
        job.fail(f"output is not JSON and would be lost at RunPod: {error}")
        return None


async def _iterate(generator: Any) -> AsyncGenerator[Any, None]:
    if inspect.isasyncgen(generator):
        async with aclosing(generator):
            async for output in generator:
                yield output
    else:
        for output in generator:
            yield output
            await asyncio.sleep(0)
