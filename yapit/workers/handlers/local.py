"""HTTP worker: `ADAPTER_CLASS=package.module.Class python -m yapit.workers.handlers.local`.

`POST /synthesize` takes `SynthesisParameters`. With `Accept: text/event-stream` it answers the job's events as
server-sent events; otherwise one JSON `{"audio_base64", "duration_ms", …}`. Errors are error events with their HTTP
status.

`/health`: the process lives. `/ready`: the adapter is initialised. `/ping`: the same for RunPod's load balancer, which
takes 204 for initialising, 200 for ready, and takes a worker out that answers anything else (docs).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from yapit.asgi import ClientLeft, StreamedResponse, event_stream_data, prepend, read_json, until_disconnect
from yapit.audio import wav_with_sizes
from yapit.contracts import AudioEvent, ErrorEvent, Event, SynthesisResult, event_dict, event_json
from yapit.errors import ConfigurationError, WorkerUnavailable, YapitError, from_code
from yapit.workers.loading import adapter_class_from, load_runner
from yapit.workers.runner import Runner

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 * 1024 * 1024


def create_app(adapter: str | Runner) -> Starlette:
    """The worker's ASGI app for `"package.module.Class"`, or over a runner that is there already.

    Where the server runs the lifespan, the adapter is initialised at once, while the server already answers; else by
    the first job.
    """
    runner = load_runner(adapter) if isinstance(adapter, str) else adapter

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "function": runner.spec.name, "version": runner.spec.version})

    async def ready(_: Request) -> Response:
        if runner.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "initializing"}, status_code=503, headers={"Retry-After": "1"})

    async def ping(_: Request) -> Response:
        if runner.failure is not None:
            return error_response(WorkerUnavailable(str(runner.failure)))
        return Response(status_code=200 if runner.is_ready else 204)

    async def synthesize(request: Request) -> Response:
        try:
            job_input = await read_json(request, max_bytes=MAX_BODY_BYTES)
            if "text/event-stream" in request.headers.get("accept", ""):
                return await _stream(request, runner.run(job_input))
            result = await until_disconnect(request.receive, _whole(runner.run(job_input)))
            return JSONResponse(_result_dict(result))
        except YapitError as error:
            return error_response(error)
        except ClientLeft:
            return Response(status_code=499)

    routes = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/ping", ping),
        Route("/synthesize", synthesize, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=_lifespan(runner))


def error_response(error: YapitError) -> JSONResponse:
    headers = {"Retry-After": f"{max(1, round(error.retry_after_s))}"} if error.retry_after_s else None
    return JSONResponse(event_dict(ErrorEvent.of(error)), status_code=error.http_status, headers=headers)


def _lifespan(runner: Runner) -> Any:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        starting = asyncio.create_task(_start(runner))
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await runner.close()

    return lifespan


async def _start(runner: Runner) -> None:
    """The cold start. After a failure the worker answers why, and the next job tries again."""
    try:
        await runner.start()
    except YapitError as error:
        logger.error("%s", error)


async def _stream(request: Request, events: AsyncIterator[Event]) -> Response:
    """Headers wait for the first event, so that a job that fails before any audio answers with its status."""
    first = await until_disconnect(request.receive, anext(events))
    if isinstance(first, ErrorEvent):
        raise from_code(first.code, first.message, retryable=first.retryable)
    return StreamedResponse(_event_bytes(first, events), media_type="text/event-stream")


async def _event_bytes(first: Event, rest: AsyncIterator[Event]) -> AsyncGenerator[bytes, None]:
    async with aclosing(prepend(first, rest)) as events:
        async for event in events:
            yield event_stream_data(event_json(event))


async def _whole(events: AsyncIterator[Event]) -> SynthesisResult:
    parts: list[AudioEvent] = []
    async for event in events:
        if isinstance(event, AudioEvent):
            parts.append(event)
        elif isinstance(event, ErrorEvent):
            raise from_code(event.code, event.message, retryable=event.retryable)
        else:
            audio = b"".join(part.decoded() for part in parts)
            words = tuple(word for part in parts for word in part.words or ())
            return SynthesisResult(wav_with_sizes(audio) if event.codec == "wav" else audio, event, words)
    raise AssertionError("a job ended without a terminal event")


def _result_dict(result: SynthesisResult) -> dict[str, Any]:
    done = event_dict(result.done)
    del done["type"]
    words = {"words": [word.model_dump() for word in result.words]} if result.words else {}
    return {"audio_base64": base64.b64encode(result.audio).decode("ascii"), **done, **words}


def main() -> None:
    import uvicorn

    app, port = create_app(adapter_class_from()), os.environ.get("PORT", "8000")
    if (health_port := os.environ.get("PORT_HEALTH", port)) != port:
        raise ConfigurationError(
            f"PORT_HEALTH={health_port} is not PORT={port}, where /ping is answered: set both alike"
        )
    uvicorn.run(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(port), access_log=False)


if __name__ == "__main__":
    main()
