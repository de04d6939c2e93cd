"""RunPod's load-balancing endpoints: a request goes straight to a worker's own HTTP server, without queue or retry.

`https://{id}.api.runpod.ai/<any path>` in the cloud. Here the endpoint is named by the host in the same manner
(`{id}.api.runpod.localhost`, or any host whose first label is its id), or by the path: `/lb/{id}/<any path>`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from emulator.engine.jobs import FOREVER_S, Job, JobState
from emulator.runpod import facts
from emulator.runpod.auth import is_authorised
from emulator.runpod.endpoint import Endpoint, EndpointType
from emulator.runpod.exchange import Exchange

logger = logging.getLogger(__name__)

PATH_PREFIX = "/lb/"
TOO_LARGE = f"over {facts.LB_PAYLOAD_BYTES:,} bytes"


class LoadBalancedEndpoint(Endpoint):
    """Its pool runs exchanges, one `Job` each, under `REQUEST_POLICY`."""

    type = EndpointType.LOAD_BALANCER

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request, through the worker that has it. Whoever leaves stops it there."""
        if self.pool.is_full:
            await _no_workers()(scope, receive, send)
            return
        exchange = Exchange(scope, send)
        job = Job(str(uuid.uuid4()), exchange, self._clock, execution_timeout_s=facts.LB_PROCESSING_S)
        patience = self._clock.call_later(facts.LB_NO_WORKER_S, lambda: _give_up_waiting(job))
        reading = asyncio.create_task(_read(exchange, receive, job))
        self.pool.submit(job)
        try:
            while not job.state.is_final:
                await job.changed(FOREVER_S)
        finally:
            patience.cancel()
            job.cancel()
            exchange.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if not (exchange.is_started or exchange.is_abandoned):
            await _refusal(job)(scope, receive, send)
        elif not exchange.is_complete:
            # returning without the end of the answer: the server closes the connection
            logger.warning("%s %s: broken off: %s", scope["method"], scope["path"], job.error or "the client left")


class LoadBalancers:
    """Middleware: requests that name a load-balancing endpoint, by host or path, go there; the others go on."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint], *, api_key: str) -> None:
        self._app, self._endpoints, self._api_key = app, endpoints, api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = self._named(scope) if scope["type"] in ("http", "websocket") else None
        if named is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            logger.error("%s: the emulator does not implement WebSockets to load-balancing endpoints", scope["path"])
            await send({"type": "websocket.close", "code": 1011, "reason": "the emulator has no WebSockets"})
        else:
            await self._serve(*named, receive, send)

    async def _serve(self, endpoint_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(endpoint_id)
        request = Request(scope)
        if not is_authorised(request, self._api_key):
            await JSONResponse(facts.UNAUTHORIZED, status_code=401)(scope, receive, send)
        elif endpoint is None:
            await JSONResponse(facts.NOT_FOUND_ENDPOINT, status_code=404)(scope, receive, send)
        elif not isinstance(endpoint, LoadBalancedEndpoint):
            await JSONResponse(facts.LB_WRONG_TYPE, status_code=facts.LB_WRONG_TYPE_STATUS)(scope, receive, send)
        elif " " in (affinity := request.headers.get(facts.LB_WORKER_HEADER, "").strip()):
            refusal = {"error": f"the emulator does not implement {facts.LB_WORKER_HEADER}: {affinity}"}
            await JSONResponse(refusal, status_code=501)(scope, receive, send)
        else:
            await endpoint.serve(scope, receive, send)

    def _named(self, scope: Scope) -> tuple[str, Scope] | None:
        """The endpoint that a request names, and the request as its worker gets it."""
        if scope["path"].startswith(PATH_PREFIX):
            endpoint_id, _, path = scope["path"].removeprefix(PATH_PREFIX).partition("/")
            _, _, raw_path = scope["raw_path"].removeprefix(PATH_PREFIX.encode()).partition(b"/")
            return endpoint_id, {**scope, "path": f"/{path}", "raw_path": b"/" + raw_path}
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        endpoint_id, dot, _ = host.partition(".")
        is_known = isinstance(self._endpoints.get(endpoint_id), LoadBalancedEndpoint)
        return (endpoint_id, scope) if dot and (is_known or facts.LB_HOST_PART in host) else None


async def _read(exchange: Exchange, receive: Receive, job: Job) -> None:
    """Hand the request's body on as it comes. Ends the job where the body is too large or the client leaves."""
    size_bytes = 0
    while (message := await receive())["type"] != "http.disconnect":
        size_bytes += len(message.get("body", b""))
        if size_bytes > facts.LB_PAYLOAD_BYTES:
            job.fail(TOO_LARGE)
            return
        await exchange.put(message)
    if not exchange.is_complete:  # a server tells of a disconnect also once the answer is out
        exchange.is_abandoned = True
        job.cancel()


def _give_up_waiting(job: Job) -> None:
    if job.state is JobState.QUEUED:
        job.time_out(facts.LB_TIMED_OUT["error"])


def _no_workers() -> JSONResponse:
    return JSONResponse(facts.LB_NO_WORKERS, status_code=facts.LB_NO_WORKER_STATUS)


def _refusal(job: Job) -> JSONResponse:
    """In place of the answer of a worker that gave none."""
    if job.error == TOO_LARGE:
        return JSONResponse({"error": TOO_LARGE}, status_code=facts.LB_OVERSIZE_STATUS)
    if job.state is JobState.TIMED_OUT:
        return JSONResponse(facts.LB_TIMED_OUT, status_code=facts.LB_NO_WORKER_STATUS)
    if job.started_at is None:
        return _no_workers()
    if job.error == facts.EXECUTION_TIMEOUT_ERROR:
        return JSONResponse({"error": "processing timed out"}, status_code=facts.LB_PROCESSING_STATUS)
    return JSONResponse({"error": "the worker did not answer"}, status_code=facts.LB_WORKER_BROKE_STATUS)
