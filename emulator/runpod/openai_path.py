"""RunPod's OpenAI path, `/v2/{endpoint}/openai/v1/…`: a request becomes a job of a queue endpoint, whose output is the
answer. What is known comes from worker-vllm's handler; how outputs are unwrapped is not verified [?], and stands in
`unwrap` and `as_text` only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator.engine.jobs import FOREVER_S, Job, JobState
from emulator.runpod import facts
from emulator.runpod.payload import RawJson
from yapit.asgi import StreamedResponse, prepend, until_disconnect
from yapit.errors import UpstreamFailed


def job_input(path: str, body: Any) -> dict[str, Any]:
    """What the worker's handler gets; a request without a body has only its route."""
    return {"openai_route": f"/{path}"} if body is None else {"openai_route": f"/{path}", "openai_input": body}


async def answer(request: Request, job: Job, body: Any) -> Response:
    """The job's output: its chunks as they come, where the body asks for a stream; else its result.

    Whoever leaves cancels the job [?].
    """
    is_stream = isinstance(body, dict) and body.get(facts.OPENAI_STREAM_FIELD) is True
    chunks = _chunks(job)
    try:
        if is_stream and (first := await until_disconnect(request.receive, anext(chunks, None))) is not None:
            return StreamedResponse(prepend(first, chunks), media_type="text/event-stream")
        await until_disconnect(request.receive, _finished(job))
    except BaseException:
        job.cancel()
        raise
    if job.state is not JobState.COMPLETED:
        error = {"error": {"message": job.error or facts.STATUS[job.state], "type": "runpod_job_failed", "code": None}}
        return JSONResponse(error, status_code=facts.OPENAI_FAILED_STATUS)
    return Response(unwrap(job.output), media_type="application/json")


def unwrap(output: RawJson | None) -> bytes:
    """A handler that yields once has that as its answer, another all of its yields [?]."""
    outputs = json.loads(output) if output is not None else None
    return json.dumps(outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else outputs).encode()


def as_text(chunk: RawJson) -> bytes:
    """A chunk of a stream: text as it is, since handlers yield raw server-sent events; anything else as one [?]."""
    content = json.loads(chunk)
    return content.encode() if isinstance(content, str) else b"data: " + chunk + b"\n\n"


async def _finished(job: Job) -> None:
    while not job.state.is_final:
        await job.changed(FOREVER_S)


async def _chunks(job: Job) -> AsyncGenerator[bytes, None]:
    """Ends with the job; raises `UpstreamFailed` if that failed after the first of them."""
    has_begun = False
    try:
        while job.has_chunks or not job.state.is_final:
            for chunk in job.drain():
                has_begun = True
                yield as_text(chunk)
            while not (job.has_chunks or job.state.is_final):
                await job.changed(FOREVER_S)
    finally:
        job.cancel()
    if has_begun and job.state is not JobState.COMPLETED:
        raise UpstreamFailed(job.error or facts.STATUS[job.state])
