"""RunPod worker: `ADAPTER_CLASS=package.module.Class python -m yapit.workers.handlers.runpod`.

The handler is a generator: each yield is one stream chunk at RunPod, and `return_aggregate_stream` makes all of them
the job's output as well. A yield waits until RunPod has taken the one before; the runner joins what was made meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from yapit.contracts import ErrorEvent, event_dict
from yapit.errors import InvalidRequest
from yapit.workers.loading import adapter_class_from, load_runner
from yapit.workers.runner import Runner

MIN_CONCURRENCY = 3
"""With fewer the SDK's loop sleeps 1 s after each job: it counts a job just taken twice (runpod 1.12.0, `get_jobs`)."""


def build_config(runner: Runner) -> dict[str, Any]:
    """What `runpod.serverless.start` is given. The runner holds back what exceeds the function's own concurrency."""

    async def handler(job: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if isinstance(job["input"], dict) and "openai_route" in job["input"]:
            yield _openai_answer(runner, job["input"]["openai_route"])
            return
        async with aclosing(runner.run(job["input"])) as events:
            async for event in events:
                yield event_dict(event)

    def concurrency_modifier(_: int) -> int:
        return max(MIN_CONCURRENCY, runner.spec.scaling.concurrency)

    return {"handler": handler, "return_aggregate_stream": True, "concurrency_modifier": concurrency_modifier}


def _openai_answer(runner: Runner, route: object) -> dict[str, Any]:
    """What is answered at RunPod's OpenAI path, `/v2/{endpoint}/openai/v1/…`, which carries JSON only."""
    if route == "/v1/models":
        return {
            "object": "list",
            "data": [{"id": runner.spec.name, "object": "model", "created": 0, "owned_by": "yapit"}],
        }
    reason = f"openai_route: a queue endpoint has no {str(route)[:80]!r}, since it cannot carry audio as such"
    return event_dict(ErrorEvent.of(InvalidRequest(f"{reason}; speak through the gateway's /v1/audio/speech")))


def main() -> None:
    import runpod  # 1.5 s to import, so only where a worker starts

    runpod.serverless.start(build_config(load_runner(adapter_class_from())))


if __name__ == "__main__":
    main()
