"""A RunPod handler that does what its input says, for the conformance tests: here, in a process, or in the cloud.

    {"input": {"steps": [{"chunk": "a"}, {"sleep_s": 0.2}, …], "return": "what the kind `function` returns"}}

`CONFORMANCE_KIND` says which of three kinds it is: `generator`, `plain` (a generator whose output is not aggregated)
or `function`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

CONCURRENCY = 8
ProgressUpdate = Callable[[dict[str, Any], Any], object]


def build_config(kind: str, progress_update: ProgressUpdate) -> dict[str, Any]:
    """What `runpod.serverless.start` takes. `progress_update`: the SDK's, or what stands in for it."""

    async def generator(job: dict[str, Any]) -> AsyncIterator[Any]:
        for step in job["input"].get("steps", []):
            async for chunk in _do(step, job, progress_update):
                yield chunk

    async def function(job: dict[str, Any]) -> Any:
        async for _ in generator(job):
            pass
        return job["input"].get("return")

    return {
        "handler": function if kind == "function" else generator,
        "return_aggregate_stream": kind == "generator",
        "concurrency_modifier": lambda _: CONCURRENCY,
    }


async def _do(step: dict[str, Any], job: dict[str, Any], progress_update: ProgressUpdate) -> AsyncIterator[Any]:
    ((what, value),) = step.items()
    match what:
        case "chunk":
            yield value
        case "chunk_bytes":
            yield "x" * value
        case "sleep_s":
            await asyncio.sleep(value)
        case "stubborn_s":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(value)
        case "progress":
            progress_update(job, value)
        case "raise":
            raise ValueError(value)
        case "exit":
            sys.exit(value)
        case _:
            raise ValueError(f"no such step: {what}")


if __name__ == "__main__":
    import runpod

    kind = os.environ.get("CONFORMANCE_KIND", "generator")
    if kind == "unfit":

        @runpod.serverless.register_fitness_check
        def check() -> None:
            raise RuntimeError("out of order, on purpose")

    runpod.serverless.start(build_config(kind, runpod.serverless.progress_update))
