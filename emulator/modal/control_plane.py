"""Modal's API: the gRPC control plane, over the functions and classes that are defined for it."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from emulator.engine.clock import Clock
from emulator.engine.faults import Faults
from emulator.modal import facts
from emulator.modal.call_store import CallStore
from emulator.modal.calls import Calls
from emulator.modal.definitions import Definition
from emulator.modal.ids import Ids
from emulator.modal.lookup import Lookup
from emulator.modal.registry import Registry
from emulator.modal.rpc import Caller, RpcServer
from emulator.modal.streams import Streams


@dataclass(frozen=True, slots=True)
class Token:
    """What the SDK is given as MODAL_TOKEN_ID and MODAL_TOKEN_SECRET."""

    token_id: str
    token_secret: str


class ControlPlane:
    """Nothing runs until `listen`."""

    def __init__(self, *, token: Token, clock: Clock, faults: Faults) -> None:
        self.token, self.ids = token, Ids()
        self.registry = Registry(clock, self.ids, faults)
        self.calls = CallStore(clock)
        areas = (
            Lookup(self.registry),
            Calls(self.registry, self.calls, self.ids, clock),
            Streams(self.calls),
        )
        handlers = {name: handler for area in areas for name, handler in area.handlers().items()}
        self.rpc = RpcServer(handlers, authorise=self._authorise, clock=clock, faults=faults)
        self.server_url = ""

    def define(self, definition: Definition) -> None:
        """Make a function or class callable."""
        self.registry.define(definition)

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Start the containers that functions always keep, and serve; what the SDK is given as MODAL_SERVER_URL."""
        for function in self.registry.functions():
            function.pool.open()
        self.server_url = await self.rpc.listen(host, port)
        return self.server_url

    async def stop_workers(self) -> None:
        """Stop every container; calls that run end as cancelled."""
        await asyncio.gather(*(function.pool.close() for function in self.registry.functions()))

    async def close(self) -> None:
        await self.stop_workers()
        await self.rpc.close()

    def _authorise(self, _: str, caller: Caller) -> None:
        token_id, token_secret = caller.get("x-modal-token-id"), caller.get("x-modal-token-secret")
        is_known = token_id == self.token.token_id and hmac.compare_digest(
            token_secret.encode(), self.token.token_secret.encode()
        )
        if not is_known:
            raise GRPCError(Status.UNAUTHENTICATED, f"token {token_id!r} is not valid here")


def default_token(api_key: str) -> Token:
    """The emulator's one key, as a Modal token."""
    return Token(facts.TOKEN_ID, api_key)
