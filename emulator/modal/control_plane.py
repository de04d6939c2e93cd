"""Modal's API: the gRPC control plane, and over HTTP blobs and web endpoints, for whatever is defined."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2
from starlette.routing import BaseRoute

from emulator.engine.clock import Clock
from emulator.engine.faults import Faults
from emulator.modal import facts
from emulator.modal.addresses import Addresses
from emulator.modal.autoscaler import Autoscaler
from emulator.modal.blobs import BlobStore
from emulator.modal.call_store import CallStore
from emulator.modal.calls import Calls
from emulator.modal.definitions import Definition
from emulator.modal.deployment import Deployment
from emulator.modal.deploys import OwnDefinition
from emulator.modal.ids import Ids
from emulator.modal.input_plane import InputPlane
from emulator.modal.intake import Intake
from emulator.modal.limits import ModalLimits
from emulator.modal.lookup import Lookup
from emulator.modal.registry import Registry
from emulator.modal.rpc import Caller, RpcServer
from emulator.modal.streams import Streams
from emulator.modal.tokens import Signer
from emulator.modal.web import ProxyToken, Web


@dataclass(frozen=True, slots=True)
class Token:
    """What the SDK is given as MODAL_TOKEN_ID and MODAL_TOKEN_SECRET."""

    token_id: str
    token_secret: str

    def is_in(self, caller: Caller) -> bool:
        is_id = hmac.compare_digest(caller.get("x-modal-token-id").encode(), self.token_id.encode())
        return is_id and hmac.compare_digest(caller.get("x-modal-token-secret").encode(), self.token_secret.encode())


class ControlPlane:
    """Nothing runs until `listen`. `http_url` is where `routes` are served; without it there are no blobs. `own` says
    which of the functions that are deployed here are served in this process, and not by containers."""

    def __init__(
        self,
        *,
        token: Token,
        proxy_token: ProxyToken,
        clock: Clock,
        faults: Faults,
        limits: ModalLimits | None = None,
        http_url: str = "",
        own: OwnDefinition | None = None,
    ) -> None:
        self.token, self.proxy_token, self.addresses = token, proxy_token, Addresses(http_url)
        self.ids, signer = Ids(), Signer()
        self.registry, self.calls = Registry(clock, self.ids, faults), CallStore(clock)
        self.blobs = BlobStore(clock, self.ids, self.addresses)
        self.intake = Intake(self.registry, self.calls, self.blobs, self.ids, clock, limits or ModalLimits())
        self._web = Web(
            self.registry,
            self.intake,
            self.calls,
            clock,
            addresses=self.addresses,
            proxy_token=proxy_token,
        )
        lookup = Lookup(self.registry, self.addresses)
        self.deployment = Deployment(
            *(self.registry, lookup, self.blobs, self.ids, clock, faults),
            all_handlers=lambda: self._handlers,
            own=own or _nothing_is_ours,
        )
        areas = (
            lookup,
            Calls(self.intake, self.calls, signer, clock),
            Streams(self.intake, self.calls),
            InputPlane(self.intake, self.calls, signer, clock),
            Autoscaler(self.intake),
            self.blobs,
            self.deployment,
        )
        self._handlers = {name: handler for area in areas for name, handler in area.handlers().items()}
        self.rpc = RpcServer(self._handlers, authorise=self._authorise, clock=clock, faults=faults)

    @property
    def server_url(self) -> str:
        """What the SDK is given as MODAL_SERVER_URL; empty before `listen`."""
        return self.addresses.rpc

    def environment(self) -> dict[str, str]:
        """What the SDK needs to find this control plane, once it listens."""
        return {
            "MODAL_SERVER_URL": self.server_url,
            "MODAL_TOKEN_ID": self.token.token_id,
            "MODAL_TOKEN_SECRET": self.token.token_secret,
        }

    def define(self, definition: Definition) -> None:
        """Make a function or class callable."""
        self.deployment.apps.adopt(self.registry.define(definition))

    def routes(self) -> list[BaseRoute]:
        """What is served over HTTP."""
        return [*self.blobs.routes(), *self._web.routes()]

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Start the containers that functions always keep, and serve; the server's URL."""
        for function in self.registry.functions():
            function.pool.open()
        self.addresses.rpc = await self.rpc.listen(host, port)
        return self.addresses.rpc

    async def stop_workers(self) -> None:
        """Stop every container; calls that run end as cancelled."""
        await self.registry.close()

    async def close(self) -> None:
        await self.stop_workers()
        await self.rpc.close()
        self.deployment.close()

    def _authorise(self, _: str, caller: Caller) -> None:
        if not self.token.is_in(caller):
            found = caller.get("x-modal-token-id") or "none"
            raise GRPCError(Status.UNAUTHENTICATED, f"not a valid token here: {found}")


def _nothing_is_ours(_app_name: str, _function: api_pb2.Function, _blobs: BlobStore) -> Definition | None:
    return None


def default_tokens(api_key: str) -> tuple[Token, ProxyToken]:
    """The emulator's one key as the secret of a Modal token and of a proxy token."""
    return Token(facts.TOKEN_ID, api_key), ProxyToken(facts.PROXY_KEY, api_key)
