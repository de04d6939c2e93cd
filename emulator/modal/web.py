"""Web endpoints, over HTTP: `/modal/web/{label}/…`. A request is a call like any other, on the same containers."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode

from grpclib.exceptions import GRPCError
from modal_proto import api_pb2
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.types import Receive, Scope, Send

from emulator.engine.clock import Clock
from emulator.modal import facts, parameters
from emulator.modal.addresses import Addresses
from emulator.modal.call import FunctionCall
from emulator.modal.call_store import CallStore
from emulator.modal.intake import SYNC, Intake
from emulator.modal.limits import OverLimit
from emulator.modal.parameters import BadParameters
from emulator.modal.registry import Function, Registry, TooManyVariants
from emulator.modal.web_exchange import WebExchange
from emulator.modal.web_request import WebRequest

logger = logging.getLogger(__name__)

PATH = "/modal/web"
Query = Mapping[str, list[str]]
_SCOPE = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers", "client")


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
            logger.error("the emulator's web endpoints do not speak %s", scope["type"])
            await send({"type": "websocket.close", "code": 1011, "reason": "not implemented by the emulator"})
            return
        answer = self._answer(scope, parse_qs(scope["query_string"].decode("latin-1")))
        if isinstance(answer, Response):
            await answer(scope, receive, send)
        else:
            await self._serve(answer, scope, receive, send)

    async def _serve(self, call: FunctionCall, scope: Scope, receive: Receive, send: Send) -> None:
        query = urlencode({facts.WEB_CALL_PARAMETER: call.call_id})
        result_url = f"{self._addresses.http}{scope['path']}?{query}"
        request = WebRequest(call, self._clock, scope, receive, send, result_url=result_url)
        try:
            await request.serve()
        finally:
            if request.is_over:
                self._store.drop(call.call_id)

    def _answer(self, scope: Scope, query: Query) -> FunctionCall | Response:
        """The call that answers a request, or what is answered at once."""
        found = self._registry.web_endpoint(_label(scope))
        if found is None:
            return PlainTextResponse("modal-http: invalid function call", status_code=404)
        function, name = found
        needs_token = function.definition.methods[name].requires_proxy_auth
        if needs_token and not self._proxy_token.is_in(Headers(scope=scope)):
            return PlainTextResponse("modal-http: missing or invalid proxy credentials", status_code=401)
        try:
            function = self._bound(function, query)
            if call_id := query.get(facts.WEB_CALL_PARAMETER):
                return self._known(function, call_id[0])
            self._intake.admit_count(function, 1)
            return self._call(function, name, scope)
        except BadParameters as error:
            return PlainTextResponse(f"modal-http: {error}", status_code=400)
        except (OverLimit, TooManyVariants, GRPCError) as error:
            return PlainTextResponse(f"modal-http: {error}", status_code=429, headers={"Retry-After": "1"})

    def _bound(self, function: Function, query: Query) -> Function:
        """The variant with the class's parameters from the query [DOCS]. Raises `BadParameters`, `TooManyVariants`."""
        specs = function.definition.parameters
        if not specs:
            return function
        values = parameters.checked(parameters.from_query(query, specs), specs)
        return self._registry.bind(function, parameters.encode(values, specs), api_pb2.FunctionOptions())

    def _call(self, function: Function, name: str, scope: Scope) -> FunctionCall:
        """Raises `GRPCError` if no more calls can be kept."""
        call = self._intake.open(function, is_map=False, invocation=SYNC)
        clean: dict[str, Any] = {key: scope[key] for key in _SCOPE if key in scope}
        clean["root_path"] = f"{scope['root_path']}/{_label(scope)}"
        message = api_pb2.FunctionInput(data_format=api_pb2.DATA_FORMAT_ASGI, method_name=name)
        self._intake.put(call, 0, message, WebExchange(clean))
        return call

    def _known(self, function: Function, call_id: str) -> FunctionCall | Response:
        call = self._store.get(call_id)
        is_ours = call is not None and call.function.function_id == function.function_id
        if call is None or not is_ours or call.inputs[0].job.input.web is None:
            return PlainTextResponse("modal-http: there is no such call, or not any more", status_code=404)
        return call


def _label(scope: Scope) -> str:
    path: str = scope["path"][len(scope["root_path"]) :]
    return path.lstrip("/").partition("/")[0]
