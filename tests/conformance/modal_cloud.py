"""Modal as the conformance tests see it: an app deployed somewhere, and the unmodified SDK that calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import modal
import pytest

from emulator.engine.clock import Clock, RealClock
from emulator.engine.faults import Faults
from emulator.engine.policy import PoolLimits
from emulator.modal.control_plane import ControlPlane, Token
from emulator.modal.definitions import Definition, Method
from emulator.modal.worker import CallContext, InstanceWorker
from tests.conformance.modal_served import Served

APP = "conformance"
TOKEN = Token("ak-test", "as-test")
GENERATORS = ("count", "gated", "fail_after")


class Cloud:
    """`rpcs` are the names of the RPCs that were called, in order; None where the target cannot tell."""

    def __init__(self, client: modal.Client, control_plane: ControlPlane) -> None:
        self.client, self.control_plane = client, control_plane

    @property
    def rpcs(self) -> list[str]:
        return list(self.control_plane.rpc.log)

    def cls(self, name: str = "Served") -> Any:
        return modal.Cls.from_name(APP, name, client=self.client)

    def function(self, name: str) -> Any:
        return modal.Function.from_name(APP, name, client=self.client)


class ServedInstance:
    """The tests' class, called as the in-process back end calls one."""

    def __init__(self) -> None:
        self._served = Served()

    @property
    def methods(self) -> Mapping[str, Callable[..., Any]]:
        plain = ("echo", "who", "fail", "hold", "count", "fail_after")
        return {**{name: without_context(getattr(self._served, name)) for name in plain}, "gated": self._gated}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def _gated(self, context: CallContext, gate: str) -> Any:
        return self._served.gated(gate, context.function_call_id)


def without_context(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *args, **kwargs: method(*args, **kwargs)


def define(control_plane: ControlPlane) -> None:
    names = ("echo", "who", "fail", "hold", "count", "gated", "fail_after")
    served = Definition(
        app_name=APP,
        name="Served",
        is_class=True,
        methods={name: Method(name, is_generator=name in GENERATORS) for name in names},
        make_worker=lambda _id, _parameters: InstanceWorker(ServedInstance),
        limits=PoolLimits(max_workers=2, concurrency=8, idle_timeout_s=60),
    )
    control_plane.define(served)


@asynccontextmanager
async def in_process(monkeypatch: pytest.MonkeyPatch, clock: Clock | None = None) -> AsyncIterator[Cloud]:
    """The emulator's control plane in this event loop, its containers in this process."""
    control_plane = ControlPlane(token=TOKEN, clock=clock or RealClock(), faults=Faults())
    define(control_plane)
    monkeypatch.setenv("MODAL_SERVER_URL", await control_plane.listen())
    client = await modal.Client.from_credentials.aio(TOKEN.token_id, TOKEN.token_secret)
    yield Cloud(client, control_plane)
    await client.close.aio()
    await control_plane.close()
