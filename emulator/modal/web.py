"""Web endpoints, over HTTP: `/modal/web/{label}/…`. A request is a call like any other, on the same containers."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode

from grpclib.exceptions import GRPCError
from modal_proto import api_pb2
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.types import Message, Receive, Scope, Send

from emulator.engine.clock import Clock
from emulator.engine.jobs import FOREVER_S, Job, JobState
from emulator.modal import facts
from emulator.modal.addresses import Addresses
from emulator.modal.call import FunctionCall
from emulator.modal.call_store import CallStore
from emulator.modal.intake import SYNC, Intake
from emulator.modal.limits import OverLimit
from emulator.modal.registry import Function, Registry
from emulator.modal.web_exchange import WebExchange

PATH = "/modal/web"
_SCOPE = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers", "client")


class BrokenOff(ConnectionError):
    """The container failed after the response had begun: the server closes the socket, for want of anything better."""


@dataclass(frozen=True, slots=True)
class ProxyToken:
    """What clients send as `Modal-Key` and `Modal-Secret`."""

    key: str
    secret: str

    def is_in(self, headers: Headers) -> bool:
        is_key = hmac.compare_digest(headers.get("modal-key", "").encode(), self.key.encode())
        return is_key and hmac.compare_digest(headers.get("modal-secret", "").encode(), self.secret.encode())


class Web:
    """An ASGI app over every web method that the registry has."""

    def __init__(
        self,
        registry: Registry,
        intake: Intake,
        store: CallStore,
        clock: Clock,
        *,
        addresses: Addresses,
        proxy_token: ProxyToken,
    ) -> None:
        self._registry, self._intake, self._store, self._clock = registry, intake, store, clock
        self._addresses, self._proxy_token = addresses, proxy_token

    def routes(self) -> list[BaseRoute]:
        return [Mount(PATH, app=self)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the emulator's web endpoints do not speak {scope['type']}")
        answer = self._refusal(scope) or self._call(scope)
        if isinstance(answer, Response):
            await answer(scope, receive, send)
        else:
            await _Request(self, answer, scope, receive, send).serve()

    def url(self, scope: Scope, call: FunctionCall) -> str:
        """Where the result of a call will be."""
        query = urlencode({facts.WEB_CALL_PARAMETER: call.call_id})
        return f"{self._addresses.http}{scope['path']}?{query}"

    def _refusal(self, scope: Scope) -> Response | None:
        found = self._registry.web_endpoint(_label(scope))
        if found is None:
            return PlainTextResponse("modal-http: invalid function call", status_code=404)
        function, name = found
        needs_token = function.definition.methods[name].requires_proxy_auth
        if needs_token and not self._proxy_token.is_in(Headers(scope=scope)):
            return PlainTextResponse("modal-http: missing or invalid proxy credentials", status_code=401)
        return None

    def _call(self, scope: Scope) -> FunctionCall | Response:
        found = self._registry.web_endpoint(_label(scope))
        assert found is not None  # noqa: S101 - or it was refused
        function, name = found
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if call_id := query.get(facts.WEB_CALL_PARAMETER):
            return self._known(function, call_id[0])
        try:
            self._intake.admit_count(function, 1)
            call = self._intake.open(function, is_map=False, invocation=SYNC)
        except (OverLimit, GRPCError) as error:
            return PlainTextResponse(f"modal-http: {error}", status_code=429, headers={"Retry-After": "1"})
        clean: dict[str, Any] = {key: scope[key] for key in _SCOPE if key in scope}
        clean["root_path"] = f"{scope['root_path']}/{_label(scope)}"
        message = api_pb2.FunctionInput(data_format=api_pb2.DATA_FORMAT_ASGI, method_name=name)
        self._intake.put(call, 0, message, WebExchange(clean))
        return call

    def _known(self, function: Function, call_id: str) -> FunctionCall | Response:
        call = self._store.get(call_id)
        if call is None or call.function is not function or call.inputs[0].job.input.web is None:
            return PlainTextResponse("modal-http: there is no such call, or not any more", status_code=404)
        return call


class _Request:
    """One request, and the call that answers it."""

    def __init__(self, web: Web, call: FunctionCall, scope: Scope, receive: Receive, send: Send) -> None:
        self._web, self._call, self._scope, self._receive, self._send = web, call, scope, receive, send
        self._job: Job = call.inputs[0].job
        self._exchange: WebExchange = self._job.input.web
        self._is_polling = facts.WEB_CALL_PARAMETER.encode() in scope["query_string"]
        self._has_begun = self._is_complete = self._is_redirected = False

    async def serve(self) -> None:
        """Whoever hangs up cancels the call, unless it had been redirected to its result."""
        listening, answering = asyncio.create_task(self._listen()), asyncio.create_task(self._answer())
        try:
            await asyncio.wait((listening, answering), return_when=asyncio.FIRST_COMPLETED)
            if listening.done() and listening.exception():
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
                if not self._has_begun:
                    await self._send_response(PlainTextResponse(str(listening.exception()), status_code=413))
            elif answering.done():
                answering.result()
        finally:
            for task in (listening, answering):
                task.cancel()
            await asyncio.gather(listening, answering, return_exceptions=True)
            # a server tells of a disconnect also once the response is out, and what goes on after it may go on
            is_left = self._is_polling or self._is_complete
            if not (self._is_redirected or (is_left and not self._job.state.is_final)):
                self._job.cancel()
                self._web._store.drop(self._call.call_id)

    async def _listen(self) -> None:
        """Until the client leaves, which the function is told. Raises `BodyTooLarge`."""
        is_there = True
        while is_there:
            message = await self._receive()
            is_there = message["type"] != "http.disconnect"
            if not self._is_polling:
                self._exchange.put(message)

    async def _answer(self) -> None:
        clock = self._web._clock
        give_up_at = clock.now() + facts.WEB_TIMEOUT_S
        while True:
            while messages := self._job.drain():
                for message in messages:
                    await self._pass_on(message)
            if self._job.state.is_final:
                await self._end()
                return
            remaining_s = FOREVER_S if self._has_begun else give_up_at - clock.now()
            if remaining_s <= 0:
                self._is_redirected = True
                url = self._web.url(self._scope, self._call)
                await self._send_response(RedirectResponse(url, status_code=303))
                return
            await self._job.changed(remaining_s)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._has_begun:
            raise BrokenOff("another container began again")
        self._has_begun = True
        await self._send(message)
        self._is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def _end(self) -> None:
        if self._job.state is JobState.COMPLETED and self._has_begun:
            return
        if self._has_begun:
            raise BrokenOff(self._job.error)
        reason = self._job.error or "the function sent no response"
        await self._send_response(PlainTextResponse(f"modal-http: internal error: {reason}", status_code=500))

    async def _send_response(self, response: Response) -> None:
        await response(self._scope, self._receive, self._send)


def _label(scope: Scope) -> str:
    path: str = scope["path"][len(scope["root_path"]) :]
    return path.lstrip("/").partition("/")[0]
