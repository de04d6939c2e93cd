"""RunPod's client API, `/v2/{endpoint}/…`, as its SDKs and users call it. Every success is exactly 200 [GO] [JS]."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from emulator.engine.clock import Clock
from emulator.engine.jobs import Job
from emulator.engine.store import StoreFull
from emulator.runpod import facts, openai_path
from emulator.runpod.auth import is_authorised
from emulator.runpod.endpoint import BadRequest, Endpoint, NotEmulated, QueueEndpoint
from emulator.runpod.limits import RateLimiter, RunpodLimits, TooManyRequests
from emulator.runpod.payload import render
from emulator.runpod.webhooks import Webhooks
from yapit.asgi import ClientLeft, read_json, until_disconnect
from yapit.errors import InvalidRequest, PayloadTooLarge

Operation = Callable[[Request, QueueEndpoint], Awaitable[Response]]
JobOperation = Callable[[Request, QueueEndpoint, Job], Awaitable[Response]]


class ClientApi:
    """Routes over `endpoints`, which may change while it serves. Without `limits` there are no rate limits."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        *,
        api_key: str,
        clock: Clock,
        webhook_client: httpx.AsyncClient,
        limits: RunpodLimits | None = None,
    ) -> None:
        self._endpoints, self._api_key, self._clock = endpoints, api_key, clock
        self.webhooks = Webhooks(webhook_client, clock)
        self._limiter = RateLimiter(limits or RunpodLimits(rates={}), clock)
        self._limits_queue = limits is not None

    def routes(self) -> list[BaseRoute]:
        both = ["GET", "POST"]  # the Go SDK asks with POST, the others with GET
        return [
            self._route("run", self._run, ["POST"]),
            self._route("runsync", self._runsync, ["POST"]),
            self._route("status", _with_job(self._status), both, "/{job_id}"),
            self._route("status-sync", _with_job(self._status_sync), both, "/{job_id}"),
            self._route("stream", _with_job(self._stream), both, "/{job_id}"),
            self._route("cancel", _with_job(self._cancel), ["POST"], "/{job_id}"),
            self._route("retry", _with_job(self._retry), ["POST"], "/{job_id}"),
            self._route("purge-queue", self._purge, ["POST"]),
            self._route("requests", self._requests, ["GET"]),
            self._route("openai", self._openai, both, "/{path:path}"),
            self._counters("health", Endpoint.health),
            self._counters("metrics", Endpoint.metrics),
            self._route("", _not_implemented, ["GET", "POST", "PUT", "PATCH", "DELETE"], "{rest:path}"),
        ]

    def _route(self, name: str, operation: Operation, methods: list[str], suffix: str = "") -> Route:
        async def handle(request: Request) -> Response:
            endpoint = self._found(request)
            if isinstance(endpoint, Response):
                return endpoint
            if not isinstance(endpoint, QueueEndpoint):
                return JSONResponse(facts.LB_WRONG_TYPE, status_code=facts.LB_WRONG_TYPE_STATUS)
            try:
                with self._limiter.admit(endpoint.endpoint_id, name):
                    return await operation(request, endpoint)
            except Exception as error:
                return _refusal(error)

        return Route(f"/v2/{{endpoint_id}}/{name}{suffix}", handle, methods=methods)

    def _found(self, request: Request) -> Endpoint | Response:
        """The endpoint that a request names, or the refusal that it gets instead."""
        if not is_authorised(request, self._api_key):
            return JSONResponse(facts.UNAUTHORIZED, status_code=401)
        endpoint = self._endpoints.get(request.path_params["endpoint_id"])
        return JSONResponse(facts.NOT_FOUND_ENDPOINT, status_code=404) if endpoint is None else endpoint

    def _counters(self, name: str, count: Callable[[Endpoint], dict[str, Any]]) -> Route:
        """What endpoints of both types answer."""

        async def handle(request: Request) -> Response:
            endpoint = self._found(request)
            return endpoint if isinstance(endpoint, Response) else JSONResponse(count(endpoint))

        return Route(f"/v2/{{endpoint_id}}/{name}", handle, methods=["GET"])

    async def _run(self, request: Request, endpoint: QueueEndpoint) -> Response:
        job = await self._submit(request, endpoint, is_sync=False)
        return JSONResponse({"id": job.job_id, "status": "IN_QUEUE"})

    async def _runsync(self, request: Request, endpoint: QueueEndpoint) -> Response:
        wait_ms = _wait_ms(request, facts.RUNSYNC_WAIT_MS)
        job = await self._submit(request, endpoint, is_sync=True)
        await until_disconnect(request.receive, self._until_final(job, wait_ms))
        return _answer(endpoint.status(job))

    async def _openai(self, request: Request, endpoint: QueueEndpoint) -> Response:
        self._check_room(endpoint)
        limit = facts.RUNSYNC_BODY_BYTES
        body = await read_json(request, max_bytes=limit) if request.method == "POST" else None
        job_input = openai_path.job_input(request.path_params["path"], body)
        job = endpoint.submit({"input": job_input}, is_sync=True, size_bytes=_size_bytes(request, limit))
        return await openai_path.answer(request, job, body)

    async def _submit(self, request: Request, endpoint: QueueEndpoint, *, is_sync: bool) -> Job:
        self._check_room(endpoint)
        limit = facts.RUNSYNC_BODY_BYTES if is_sync else facts.RUN_BODY_BYTES
        body = await read_json(request, max_bytes=limit)
        job = endpoint.submit(body, is_sync=is_sync, size_bytes=_size_bytes(request, limit))
        if job.labels["webhook"]:
            self._call_webhook_when_final(endpoint, job)
        return job

    def _check_room(self, endpoint: QueueEndpoint) -> None:
        if endpoint.pool.is_full:
            raise StoreFull(f"{endpoint.pool.queued} jobs are waiting")
        if self._limits_queue:
            self._limiter.check_queue(endpoint.pool.queued, endpoint.pool.limits.max_workers)

    def _call_webhook_when_final(self, endpoint: QueueEndpoint, job: Job) -> None:
        url = job.labels["webhook"]

        def send(_: Job) -> None:
            self.webhooks.send(url, render({**endpoint.status(job), "input": job.input, "webhook": url}))

        if job.state.is_final:
            send(job)
        job.on_final.append(send)

    async def _status(self, request: Request, endpoint: QueueEndpoint, job: Job) -> Response:
        if "ttl" in request.query_params:
            ttl_ms = _milliseconds(request, "ttl", 0, facts.STATUS_TTL_RANGE_MS)
            endpoint.jobs.keep_for(job, ttl_ms / 1000)
        return _answer(endpoint.status(job))

    async def _status_sync(self, request: Request, endpoint: QueueEndpoint, job: Job) -> Response:
        wait_ms = _wait_ms(request, facts.STATUS_SYNC_WAIT_MS)
        await until_disconnect(request.receive, self._until_final(job, wait_ms))
        return _answer(endpoint.status(job))

    async def _stream(self, request: Request, endpoint: QueueEndpoint, job: Job) -> Response:
        wait_ms = _wait_ms(request, facts.STREAM_WAIT_MS)
        if not (job.has_chunks or job.state.is_final):
            await until_disconnect(request.receive, self._until_chunk(job, wait_ms))
        return _answer(endpoint.chunks(job))

    async def _cancel(self, _: Request, endpoint: QueueEndpoint, job: Job) -> Response:
        endpoint.pool.cancel(job)
        return _answer(endpoint.status(job))

    async def _retry(self, _: Request, endpoint: QueueEndpoint, job: Job) -> Response:
        if not endpoint.retry(job):
            raise BadRequest(f"only FAILED and TIMED_OUT jobs can be retried; this one is {facts.STATUS[job.state]}")
        return JSONResponse({"id": job.job_id, "status": "IN_QUEUE"})

    async def _purge(self, _: Request, endpoint: QueueEndpoint) -> Response:
        return JSONResponse({"removed": endpoint.pool.purge(), "status": "completed"})

    async def _requests(self, _: Request, endpoint: QueueEndpoint) -> Response:
        requests = [endpoint.status(job) for job in endpoint.jobs.jobs()]
        told = [{key: value for key, value in request.items() if key != "output"} for request in requests]
        return JSONResponse({facts.REQUESTS_KEY: told})

    async def _until_final(self, job: Job, wait_ms: int) -> None:
        end_s = self._clock.now() + wait_ms / 1000
        while not job.state.is_final and (remaining_s := end_s - self._clock.now()) > 0:
            await job.changed(remaining_s)

    async def _until_chunk(self, job: Job, wait_ms: int) -> None:
        end_s = self._clock.now() + wait_ms / 1000
        while not (job.has_chunks or job.state.is_final) and (remaining_s := end_s - self._clock.now()) > 0:
            await job.changed(remaining_s)


def _wait_ms(request: Request, default: int) -> int:
    return _milliseconds(request, "wait", default, (facts.WAIT_MIN_MS, facts.WAIT_MAX_MS))


def _milliseconds(request: Request, name: str, default: int, bounds: tuple[int, int]) -> int:
    """A parameter of the query. Raises `BadRequest`."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if not value.isdecimal() or not bounds[0] <= int(value) <= bounds[1]:
        raise BadRequest(f"{name} must be {bounds[0]} to {bounds[1]} milliseconds, found {value!r}")
    return int(value)


def _size_bytes(request: Request, limit: int) -> int:
    """The body's size, or where it came in chunks at most the limit."""
    return int(request.headers.get("content-length", limit))


def _with_job(operation: JobOperation) -> Operation:
    async def find(request: Request, endpoint: QueueEndpoint) -> Response:
        job = endpoint.jobs.get(request.path_params["job_id"])
        if job is None:
            return JSONResponse(facts.NOT_FOUND_JOB, status_code=404)
        async for _ in request.stream():
            pass  # a POST's body says nothing here, but a hang-up shows only once it is read
        response = await operation(request, endpoint, job)
        if endpoint.jobs.get(job.job_id) is None:  # its time to live ended while the call was held
            return JSONResponse(facts.NOT_FOUND_JOB, status_code=404)
        return response

    return find


def _answer(content: Mapping[str, Any]) -> Response:
    return Response(render(content), media_type="application/json")


def _refusal(error: Exception) -> Response:
    """What is answered in place of a success. Raises `error` if it is none of these."""
    if isinstance(error, PayloadTooLarge):
        return JSONResponse({"error": str(error)}, status_code=facts.OVERSIZE_STATUS)
    if isinstance(error, BadRequest | InvalidRequest):
        return JSONResponse({"error": str(error)}, status_code=400)
    if isinstance(error, StoreFull | TooManyRequests):
        answer = {"error": f"{facts.TOO_MANY_REQUESTS}: {error}"}
        return JSONResponse(answer, status_code=429, headers={"Retry-After": "1"})
    if isinstance(error, NotEmulated):
        known = [operation.name for operation in facts.OPERATIONS if operation.is_here]
        answer_501 = {"error": f"the emulator does not implement {error}", "implemented": known}
        return JSONResponse(answer_501, status_code=501)
    if isinstance(error, ClientLeft):
        return Response(status_code=499)
    raise error


async def _not_implemented(request: Request, _: QueueEndpoint) -> Response:
    raise NotEmulated(f"{request.method} {request.url.path}")
