"""RunPod's worker API, `/v2/{endpoint}/job-take/…`, as `runpod.serverless.start` calls it (runpod 1.12.0: `rp_job`,
`rp_http`, `rp_ping`, `rp_scale`).

The job is named by the URL: the SDK's `X-Request-ID` is set on a shared session and belongs to another job. Bodies are
JSON under a form's content type.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from emulator.engine.clock import Clock, sleep
from emulator.engine.jobs import Attempt, JobState
from emulator.engine.pulled import PulledWorker
from emulator.runpod import facts
from emulator.runpod.auth import is_authorised
from emulator.runpod.endpoint import Endpoint, QueueEndpoint
from emulator.runpod.payload import NotJson, encode
from emulator.runpod.results import finish, limit_bytes, refuse_oversize
from yapit.asgi import ClientLeft, until_disconnect

logger = logging.getLogger(__name__)

WorkerOperation = Callable[[Request, QueueEndpoint, PulledWorker], Awaitable[Response]]
ReportOperation = Callable[[QueueEndpoint, PulledWorker, Attempt, dict[str, Any]], None]

DONE: dict[str, Any] = {}
"""The SDK reads the status of what answers a report, never its body."""


class WorkerApi:
    """Routes over `endpoints`, for the workers of their pools that pull their jobs."""

    def __init__(self, endpoints: Mapping[str, Endpoint], *, api_key: str, clock: Clock) -> None:
        self._endpoints, self._api_key, self._clock = endpoints, api_key, clock

    def routes(self) -> list[BaseRoute]:
        base = "/v2/{endpoint_id}"
        report = "{worker_id}/{job_id}"
        return [
            Route(f"{base}/job-take/{{worker_id}}", self._by_worker(self._take), methods=["GET"]),
            Route(f"{base}/job-take-batch/{{worker_id}}", self._by_worker(self._take_batch), methods=["GET"]),
            Route(f"{base}/job-stop/{{worker_id}}", self._by_worker(self._stop), methods=["GET"]),
            Route(f"{base}/ping/{{worker_id}}", self._by_worker(self._ping), methods=["GET"]),
            Route(f"{base}/job-done/{report}", self._by_worker(_reporting(_done)), methods=["POST"]),
            Route(f"{base}/job-stream/{report}", self._by_worker(_reporting(_streamed)), methods=["POST"]),
        ]

    def _by_worker(self, operation: WorkerOperation) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            if not is_authorised(request, self._api_key):
                logger.warning("%s: wrong key; the SDK prefers the one in ~/.runpod/config.toml", request.url.path)
                return JSONResponse(facts.UNAUTHORIZED, status_code=401)
            endpoint = self._endpoints.get(request.path_params["endpoint_id"])
            worker = endpoint.pool.worker(request.path_params["worker_id"]) if endpoint else None
            try:
                if not isinstance(endpoint, QueueEndpoint) or not isinstance(worker, PulledWorker):
                    return await self._refuse_stranger(request)
                worker.heard()
                return await operation(request, endpoint, worker)
            except ClientLeft:
                return Response(status_code=499)

        return handle

    async def _refuse_stranger(self, request: Request) -> Response:
        """A worker that was replaced, or never was here: its reports are late. Its polls are held for a moment, since
        the SDK asks again at once after a 400."""
        if request.method == "POST":
            await _body(request, 0)
            return JSONResponse(DONE)
        await until_disconnect(request.receive, sleep(self._clock, facts.STRANGER_HOLD_S))
        return JSONResponse(facts.NOT_FOUND_WORKER, status_code=400)

    async def _take(self, request: Request, _: QueueEndpoint, worker: PulledWorker) -> Response:
        attempts = await _taken(request, worker, 1)
        return JSONResponse(_event(attempts[0])) if attempts else Response(status_code=204)

    async def _take_batch(self, request: Request, _: QueueEndpoint, worker: PulledWorker) -> Response:
        size = request.query_params.get("batch_size", "1")
        if not size.isdecimal() or not 1 <= int(size) <= facts.MAX_BATCH_SIZE:
            return JSONResponse({"error": f"batch_size must be 1 to {facts.MAX_BATCH_SIZE}"}, status_code=400)
        attempts = await _taken(request, worker, int(size))
        return JSONResponse([_event(attempt) for attempt in attempts]) if attempts else Response(status_code=204)

    async def _stop(self, request: Request, _: QueueEndpoint, worker: PulledWorker) -> Response:
        job_ids = await until_disconnect(request.receive, worker.stops(facts.JOB_STOP_HOLD_S))
        return JSONResponse({"jobsToStop": job_ids}) if job_ids else Response(status_code=204)

    async def _ping(self, request: Request, _: QueueEndpoint, worker: PulledWorker) -> Response:
        query = request.query_params
        if query.get("status") == "unhealthy":
            worker.complain(f"{query.get('check', 'check')}: {query.get('reason', 'no reason given')}")
            logger.error("worker %s is unhealthy: %s", worker.worker_id, worker.complaint)
        else:
            worker.recover()
            worker.heard(filter(None, query.get("job_id", "").split(",")))
        return JSONResponse(DONE)


def _reporting(apply: ReportOperation) -> WorkerOperation:
    """A report on a job. One that comes late, twice or from a worker that lost the job is taken and ignored."""

    async def report(request: Request, endpoint: QueueEndpoint, worker: PulledWorker) -> Response:
        attempt = worker.attempt(request.path_params["job_id"])
        limit = limit_bytes(attempt) if attempt is not None else None
        body = await _body(request, facts.RUNSYNC_OUTPUT_BYTES if limit is None else limit)
        if attempt is None or not attempt.is_current:
            logger.info("worker %s: ignored a late report on job %s", worker.worker_id, request.path_params["job_id"])
            return JSONResponse(DONE)
        if body is None:
            if apply is _done:  # of a chunk, the job goes on without it
                worker.report(attempt.job_id)
                refuse_oversize(attempt)
            return JSONResponse(facts.OUTPUT_TOO_LARGE, status_code=400)
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            return JSONResponse({"error": "the body is not a JSON object"}, status_code=400)
        try:
            apply(endpoint, worker, attempt, message)
        except NotJson as error:  # Python's JSON has NaN
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse(DONE)

    return report


def _done(endpoint: QueueEndpoint, worker: PulledWorker, attempt: Attempt, message: dict[str, Any]) -> None:
    if message.get("status") == facts.STATUS[JobState.RUNNING]:  # the SDK posts progress here too
        worker.heard([attempt.job_id])
        attempt.progress(encode(message.get("output")))
        return
    output = encode(message["output"]) if message.get("output") is not None else None
    worker.report(attempt.job_id)
    finish(attempt, output, message.get("error"))
    if message.get("stopPod"):
        endpoint.pool.recycle(worker.worker_id)


def _streamed(_: QueueEndpoint, worker: PulledWorker, attempt: Attempt, message: dict[str, Any]) -> None:
    worker.heard([attempt.job_id])
    if "output" in message:
        attempt.add_chunk(encode(message["output"]))


async def _taken(request: Request, worker: PulledWorker, count: int) -> list[Attempt]:
    return await until_disconnect(request.receive, worker.take(count, facts.JOB_TAKE_HOLD_S))


async def _body(request: Request, limit_bytes: int) -> bytes | None:
    """The whole body, or `None` if it is larger; read to its end, since the SDK only looks at the answer then."""
    body = bytearray()
    size_bytes = 0
    async for part in request.stream():
        size_bytes += len(part)
        if size_bytes <= limit_bytes:
            body += part
    return bytes(body) if size_bytes <= limit_bytes else None


def _event(attempt: Attempt) -> dict[str, Any]:
    return {"id": attempt.job_id, "input": attempt.input}
