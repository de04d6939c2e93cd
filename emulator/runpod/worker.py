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

logger = logging.getLogger(__name__)

RunpodConfig = dict[str, Any]
"""What `runpod.serverless.start` takes: `handler`, `return_aggregate_stream`, `concurrency_modifier`."""


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
        is_aggregated = bool(self._config.get("return_aggregate_stream"))
        try:
            async with aclosing(_iterate(handler(event))) as outputs:
                async for output in outputs:
                    if isinstance(output, dict) and output.get("error"):
                        job.fail(str(output["error"]))
                        return
                    if not self._is_json(output, job):
                        return
                    if is_aggregated:
                        whole.append(output)
                    job.add_chunk(output)
        except Exception as error:
            logger.exception("handler of job %s raised", job.job_id)
            job.fail(f"handler: {error} \ntraceback: {traceback.format_exc()}")
            return
        job.complete(whole)

    async def _run_function(self, handler: Callable[..., Any], event: dict[str, Any], job: Job) -> None:
        try:
            result = handler(event)
            output = await result if inspect.isawaitable(result) else result
        except Exception as error:
            logger.exception("handler of job %s raised", job.job_id)
            details = {"error_type": str(type(error)), "error_message": str(error)}
            job.fail(json.dumps({**details, "error_traceback": traceback.format_exc()}))
            return
        error_message = None
        if isinstance(output, dict):
            error_message = output.pop("error", None)
            output.pop("refresh_worker", None)
        if not self._is_json(output, job):
            return
        if error_message:
            job.fail(str(error_message), output)
        else:
            job.complete(None if output == {} else output)

    def _is_json(self, output: Any, job: Job) -> bool:
        """The SDK logs such an output and posts nothing, so that the job never ends. Here it fails and says why."""
        try:
            json.dumps(output)
        except (TypeError, ValueError) as error:
            logger.error("job %s: output is not JSON and would be lost at RunPod: %s", job.job_id, error)
            job.fail(f"output is not JSON and would be lost at RunPod: {error}")
            return False
        return True


async def _iterate(generator: Any) -> AsyncGenerator[Any, None]:
    if inspect.isasyncgen(generator):
        async with aclosing(generator):
            async for output in generator:
                yield output
    else:
        for output in generator:
            yield output
            await asyncio.sleep(0)
