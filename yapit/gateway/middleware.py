"""Around every request: its id, the API key, `Server-Timing`."""

from __future__ import annotations

import hmac
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yapit.errors import AuthenticationFailed
from yapit.gateway.api.errors import error_response
from yapit.gateway.api.speech import server_timing

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_OPEN_PATHS = ("/healthz", "/readyz")


class RequestMiddleware:
    """Gives each request an id (the client's `X-Request-ID` where it is well formed) and says where its time went."""

    def __init__(self, app: ASGIApp, *, api_keys: frozenset[str]) -> None:
        self._app = app
        self._api_keys = [key.encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started_at = time.perf_counter()
        headers = Headers(scope=scope)
        proposed = headers.get("x-request-id", "")
        request_id = proposed if _REQUEST_ID.fullmatch(proposed) else f"req_{uuid.uuid4().hex}"
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, timings=None)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                total_ms = (time.perf_counter() - started_at) * 1000
                out = MutableHeaders(scope=message)
                out["x-request-id"] = request_id
                out["server-timing"] = server_timing(state["timings"], total_ms)
            await send(message)

        app = self._app if self._is_allowed(scope["path"], headers) else _unauthorised
        await app(scope, receive, send_with_headers)

    def _is_allowed(self, path: str, headers: Headers) -> bool:
        if not self._api_keys or path in _OPEN_PATHS:
            return True
        found = headers.get("authorization", "").removeprefix("Bearer ").encode()
        # all are compared, so that the time taken tells nothing
        return any([hmac.compare_digest(found, key) for key in self._api_keys])  # noqa: C419


async def _unauthorised(scope: Scope, receive: Receive, send: Send) -> None:
    error = AuthenticationFailed("Incorrect API key provided. Send one of the gateway's keys as a bearer token.")
    await error_response(error)(scope, receive, send)
