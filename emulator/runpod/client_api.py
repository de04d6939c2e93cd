"""RunPod's client API, `/v2/{endpoint}/…`, as its SDKs and users call it. Every success is exactly 200 [GO] [JS]."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from emulator.engine.clock import Clock
from emulator.engine.jobs import Job
from emulator.engine.store import StoreFull
from emulator.runpod import facts
from emulator.runpod.auth import is_authorised
from emulator.runpod.endpoint import BadRequest, Endpoint
from emulator.runpod.webhooks import Webhooks
from yapit.asgi import ClientLeft, read_json, until_disconnect
from yapit.errors import InvalidRequest, PayloadTooLarge

Operation = Callable[[Request, Endpoint], Awaitable[Response]]
JobOperation = Callable[[Request, Endpoint, Job], Awaitable[Response]]


class ClientApi:
    """Routes over `endpoints`, which may change while it serves."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint], *, api_key: str, clock: Clock, webhook_client: httpx.AsyncClient
    ) -> None:
        self._endpoints, self._api_key, self._clock = endpoints, api_key, clock
        self.webhooks = Webhooks(webhook_client, clock)

    def routes(self) -> list[BaseRoute]:
        both = ["GET", "POST"]  # the Go SDK asks with POST, the others with GET
        base = "/v2/{endpoint_id}"
        return [
            Route(f"{base}/run", self._checked(self._run), methods=["POST"]),
            Route(f"{base}/runsync", self._checked(self._runsync), methods=["POST"]),
            Route(f"{base}/status/{{job_id}}", self._with_job(self._status), methods=both),
            Route(f"{base}/status-sync/{{job_id}}", self._with_job(self._status_sync), methods=both),
            Route(f"{base}/stream/{{job_id}}", self._with_job(self._stream), methods=both),
            Route(f"{base}/cancel/{{job_id}}", self._with_job(self._cancel), methods=["POST"]),
            Route(f"{base}/retry/{{job_id}}", self._with_job(self._retry), methods=["POST"]),
            Route(f"{base}/purge-queue", self._checked(self._purge), methods=["POST"]),
            Route(f"{base}/health", self._checked(self._health), methods=["GET"]),
            Route(f"{base}/{{rest:path}}", self._checked(_not_implemented), methods=["GET", "POST", "PUT", "DELETE"]),
        ]

    def _checked(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            if not is_authorised(request, self._api_key):
                return JSONResponse(facts.UNAUTHORIZED, status_code=401)
            endpoint = self._endpoints.get(request.path_params["endpoint_id"])
            if endpoint is None:
                return JSONResponse(facts.NOT_FOUND_ENDPOINT, status_code=404)
            try:
                return await operation(request, endpoint)
            except (BadRequest, InvalidRequest) as error:
                status = 413 if isinstance(error, PayloadTooLarge) else 400
                return JSONResponse({"error": str(error)}, status_code=status)
            except StoreFull as error:
                return JSONResponse({"error": str(error)}, status_code=429, headers={"Retry-After": "1"})
            except ClientLeft:
                return Response(status_code=499)

        return handle

    def _with_job(self, operation: JobOperation) -> Callable[[Request], Awaitable[Response]]:
        async def find(request: Request, endpoint: Endpoint) -> Response:
            job = endpoint.jobs.get(request.path_params["job_id"])
            if job is None:
                return JSONResponse(facts.NOT_FOUND_JOB, status_code=404)
            async for _ in request.stream():
                pass  # a POST's body says nothing here, but a hang-up shows only once it is read
            return await operation(request, endpoint, job)

        return self._checked(find)

    async def _run(self, request: Request, endpoint: Endpoint) -> Response:
        job = await self._submit(request, endpoint, is_sync=False)
        return JSONResponse({"id": job.job_id, "status": "IN_QUEUE"})

    async def _runsync(self, request: Request, endpoint: Endpoint) -> Response:
        wait_ms = _wait_ms(request, facts.RUNSYNC_WAIT_MS)
        job = await self._submit(request, endpoint, is_sync=True)
        await until_disconnect(request.receive, self._until_final(job, wait_ms))
        return JSONResponse(endpoint.status(job))

    async def _submit(self, request: Request, endpoint: Endpoint, *, is_sync: bool) -> Job:
        if endpoint.pool.is_full:
            raise StoreFull(f"{endpoint.pool.queued} jobs are waiting")
        limit = facts.RUNSYNC_BODY_BYTES if is_sync else facts.RUN_BODY_BYTES
        body = await read_json(request, max_bytes=limit)
        job = endpoint.submit(body, is_sync=is_sync)
        if job.labels["webhook"]:
            self._call_webhook_when_final(endpoint, job)
        return job

    def _call_webhook_when_final(self, endpoint: Endpoint, job: Job) -> None:
        url = job.labels["webhook"]

        def send(_: Job) -> None:
            self.webhooks.send(url, {**endpoint.status(job), "input": job.input, "webhook": url})

        if job.state.is_final:
            send(job)
        job.on_final.append(send)

    async def _status(self, _: Request, endpoint: Endpoint, job: Job) -> Response:
        return JSONResponse(endpoint.status(job))

    async def _status_sync(self, request: Request, endpoint: Endpoint, job: Job) -> Response:
        wait_ms = _wait_ms(request, facts.STATUS_SYNC_WAIT_MS)
        await until_disconnect(request.receive, self._until_final(job, wait_ms))
        return JSONResponse(endpoint.status(job))

    async def _stream(self, request: Request, endpoint: Endpoint, job: Job) -> Response:
        wait_ms = _wait_ms(request, facts.STREAM_WAIT_MS)
        if not (job.has_chunks or job.state.is_final):
            await until_disconnect(request.receive, self._until_chunk(job, wait_ms))
        return JSONResponse(endpoint.chunks(job))

    async def _cancel(self, _: Request, endpoint: Endpoint, job: Job) -> Response:
        endpoint.pool.cancel(job)
        return JSONResponse(endpoint.status(job))

    async def _retry(self, _: Request, endpoint: Endpoint, job: Job) -> Response:
        if not endpoint.retry(job):
            raise BadRequest(f"only FAILED and TIMED_OUT jobs can be retried; this one is {facts.STATUS[job.state]}")
        return JSONResponse({"id": job.job_id, "status": "IN_QUEUE"})

    async def _purge(self, _: Request, endpoint: Endpoint) -> Response:
        return JSONResponse({"removed": endpoint.pool.purge(), "status": "completed"})

    async def _health(self, _: Request, endpoint: Endpoint) -> Response:
        return JSONResponse(endpoint.health())

    async def _until_final(self, job: Job, wait_ms: int) -> None:
        end_s = self._clock.now() + wait_ms / 1000
        while not job.state.is_final and (remaining_s := end_s - self._clock.now()) > 0:
            await job.changed(remaining_s)

    async def _until_chunk(self, job: Job, wait_ms: int) -> None:
        end_s = self._clock.now() + wait_ms / 1000
        while not (job.has_chunks or job.state.is_final) and (remaining_s := end_s - self._clock.now()) > 0:
            await job.changed(remaining_s)


def _wait_ms(request: Request, default: int) -> int:
    value = request.query_params.get("wait")
    if value is None:
        return default
    if not value.isdecimal() or not facts.WAIT_MIN_MS <= int(value) <= facts.WAIT_MAX_MS:
        raise BadRequest(f"wait must be {facts.WAIT_MIN_MS} to {facts.WAIT_MAX_MS} milliseconds, found {value!r}")
    return int(value)


async def _not_implemented(request: Request, _: Endpoint) -> Response:
    what = f"{request.method} {request.url.path}"
    known = [operation for operation, is_here in facts.OPERATIONS.items() if is_here]
    return JSONResponse({"error": f"the emulator does not implement {what}", "implemented": known}, status_code=501)
