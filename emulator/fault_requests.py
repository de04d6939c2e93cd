"""Faults of the HTTP side, around the whole emulator, and the address where rules are set: `/_emulator/faults`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pydantic
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.engine.clock import Clock, sleep
from emulator.engine.faults import Effect, FaultRule, Faults
from yapit.asgi import read_json
from yapit.errors import InvalidRequest

PATH = "/_emulator/faults"
MAX_BODY_BYTES = 100_000


class DroppedConnection(ConnectionError):
    """A rule broke the connection off; the server closes the socket without an answer."""


class _Rule(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    effect: Effect
    match: str = "*"
    probability: Annotated[float, pydantic.Field(ge=0, le=1)] = 1.0
    count: Annotated[int, pydantic.Field(ge=0)] | None = None
    value: Annotated[float, pydantic.Field(ge=0)] = 0.0


class _Rules(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    seed: int = 0
    rules: list[_Rule]


class FaultyRequests:
    """Middleware: a request may be refused, delayed, dropped, or served and not answered so, or not to the end."""

    def __init__(self, app: ASGIApp, faults: Faults, clock: Clock) -> None:
        self._app, self._faults, self._clock = app, faults, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._faults.rules or scope["path"] == PATH:
            await self._app(scope, receive, send)
            return
        subject = f"{scope['method']} {scope['path']}"
        if rule := self._faults.strike(Effect.LATENCY, subject):
            await sleep(self._clock, rule.value)
        if rule := self._faults.strike(Effect.STATUS, subject):
            await _refusal(rule)(scope, receive, send)
        elif rule := self._faults.strike(Effect.STATUS_AFTER, subject):
            await self._app(scope, receive, _swallow)
            await _refusal(rule)(scope, receive, send)
        elif self._faults.strike(Effect.DROP_BEFORE, subject):
            await _drop(send, subject)
        elif self._faults.strike(Effect.DROP_AFTER, subject):
            await self._app(scope, receive, _swallow)
            await _drop(send, subject)
        elif self._faults.strike(Effect.TRUNCATE, subject):
            await self._app(scope, receive, _Half(send, subject))
        else:
            await self._app(scope, receive, send)


def _refusal(rule: FaultRule) -> Response:
    return JSONResponse({"error": "a fault rule of the emulator"}, status_code=int(rule.value))


async def _swallow(_: Message) -> None: ...


async def _drop(send: Send, subject: str) -> None:
    """Close the socket without a word, where the server is uvicorn, whose `send` knows it. To others an exception would
    mean to answer 500, unless the headers are out."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
        await asyncio.sleep(0)  # so that the server knows
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    raise DroppedConnection(subject)


class _Half:
    """Sends the headers and half of the first part of the body, and no more."""

    def __init__(self, send: Send, subject: str) -> None:
        self._send, self._subject = send, subject

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body" and (body := message.get("body", b"")):
            await self._send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            raise DroppedConnection(self._subject)
        await self._send(message)


async def serve_rules(request: Request, faults: Faults) -> Response:
    """GET: the rules and how often each struck. PUT `{"seed", "rules"}`: replace them. DELETE: none."""
    if request.method == "PUT":
        try:
            found = _Rules.model_validate(await read_json(request, max_bytes=MAX_BODY_BYTES))
            faults.set([FaultRule(**rule.model_dump()) for rule in found.rules], seed=found.seed)
        except (ValueError, InvalidRequest) as error:  # pydantic's is a ValueError
            return JSONResponse({"error": str(error)}, status_code=422)
    elif request.method == "DELETE":
        faults.set(())
    return JSONResponse({"rules": [_told(rule, n) for rule, n in zip(faults.rules, faults.struck, strict=True)]})


def _told(rule: FaultRule, struck: int) -> dict[str, Any]:
    return {
        "effect": rule.effect.value,
        "match": rule.match,
        "probability": rule.probability,
        "count": rule.count,
        "value": rule.value,
        "struck": struck,
    }
