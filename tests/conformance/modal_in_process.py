"""The tests' app in the emulator, its containers in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import modal
import pytest
from modal_proto import api_pb2
from starlette.types import ASGIApp

from emulator.engine.clock import Clock, RealClock
from emulator.engine.faults import Faults
from emulator.engine.policy import PoolLimits
from emulator.modal.control_plane import ControlPlane
from emulator.modal.definitions import Binding, Definition, Method, Settings
from emulator.modal.limits import ModalLimits
from emulator.modal.worker import Blocking, CallContext, InstanceWorker
from tests.conformance.modal_cloud import APP, Cloud, close
from tests.conformance.modal_emulated import runs_elsewhere
from tests.conformance.modal_served import Served
from tests.conformance.modal_serving import PROXY_HEADERS, TOKEN, serving

GENERATORS = ("count", "chunks_of", "gated", "fail_after")
FUNCTIONS = ("echo", "who", "fail", "hold", "hold_blocking", "answer_of", "size_of", "try_again", "note_leave")
LIMITS = PoolLimits(max_workers=2, concurrency=8, idle_timeout_s=60)


class ServedInstance:
    """The tests' class, called as the in-process back end calls one."""

    def __init__(self, binding: Binding) -> None:
        self._served = Served(binding.parameters.get("voice", ""))
        self.web_apps: Mapping[str, ASGIApp] = {"web": self._served.web()}

    @property
    def methods(self) -> Mapping[str, Callable[..., Any] | Blocking]:
        plain = {name: _without_context(getattr(self._served, name)) for name in (*FUNCTIONS, *GENERATORS)}
        blocking = Blocking(plain["hold_blocking"])
        return {**plain, "hold_blocking": blocking, "gated": self._gated, "try_again": self._try_again}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def _gated(self, context: CallContext, gate: str) -> Any:
        return self._served.gated(gate, context.function_call_id)

    def _try_again(self, context: CallContext, tries: str, failures: int) -> Any:
        return self._served.try_again(tries, failures, context.retry_count)


class LeavingInstance(ServedInstance):
    async def stop(self) -> None:
        self._served.leave()


class BrokenInstance(ServedInstance):
    async def start(self) -> None:
        raise ValueError("no weights")


class FunctionInstance(ServedInstance):
    """One method of the class, as a function."""

    def __init__(self, binding: Binding, name: str) -> None:
        super().__init__(binding)
        self._name = name

    @property
    def methods(self) -> Mapping[str, Callable[..., Any] | Blocking]:
        return {"": super().methods[self._name]}


def _without_context(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *args, **kwargs: method(*args, **kwargs)


def define(control_plane: ControlPlane) -> None:
    """The app: classes of the same methods, each with something of its own, and functions `echo` and `count`."""
    voice = api_pb2.ClassParameterSpec(
        name="voice",
        type=api_pb2.PARAM_TYPE_STRING,
        full_type=api_pb2.GenericPayloadType(base_type=api_pb2.PARAM_TYPE_STRING),
        has_default=True,
        string_default="heart",
    )
    thrice = api_pb2.FunctionRetryPolicy(retries=2, backoff_coefficient=1.0, initial_delay_ms=0, max_delay_ms=1_000)
    _define_class(control_plane, "Served", Settings(LIMITS, timeout_s=86_400))
    _define_class(control_plane, "Voiced", Settings(LIMITS), (voice,))
    _define_class(control_plane, "Short", Settings(LIMITS, timeout_s=1.0))
    _define_class(control_plane, "Retried", Settings(LIMITS, retry_policy=thrice))
    _define_class(control_plane, "Regional", Settings(LIMITS, retry_policy=thrice, routing_region="eu-west"))
    _define_class(control_plane, "Single", Settings(PoolLimits(max_workers=1, concurrency=1, idle_timeout_s=60)))
    alone = PoolLimits(max_workers=1, concurrency=8, idle_timeout_s=60)
    _define_class(control_plane, "Alone", Settings(alone, timeout_s=86_400))
    _define_class(control_plane, "Unused", Settings(LIMITS))
    _define_class(control_plane, "Leaving", Settings(LIMITS), instance=LeavingInstance)
    _define_class(control_plane, "Broken", Settings(LIMITS), instance=BrokenInstance)
    for name in ("echo", "count"):
        function = Definition(
            app_name=APP,
            name=name,
            is_class=False,
            methods={"": Method("", is_generator=name in GENERATORS)},
            make_worker=lambda _, binding, name=name: InstanceWorker(  # type: ignore[misc]
                lambda: FunctionInstance(binding, name), control_plane.blobs
            ),
            settings=Settings(LIMITS),
        )
        control_plane.define(function)


def _define_class(
    control_plane: ControlPlane,
    name: str,
    settings: Settings,
    parameters: tuple[api_pb2.ClassParameterSpec, ...] = (),
    *,
    instance: Callable[[Binding], ServedInstance] = ServedInstance,
) -> None:
    methods = {name: Method(name, is_generator=name in GENERATORS) for name in (*FUNCTIONS, *GENERATORS)}
    methods["web"] = Method("web", is_web=True, requires_proxy_auth=True)
    control_plane.define(
        Definition(
            app_name=APP,
            name=name,
            is_class=True,
            methods=methods,
            make_worker=lambda _, binding: InstanceWorker(lambda: instance(binding), control_plane.blobs),
            settings=settings,
            parameters=parameters,
        )
    )


@asynccontextmanager
async def in_process(
    monkeypatch: pytest.MonkeyPatch, clock: Clock | None = None, limits: ModalLimits | None = None
) -> AsyncIterator[Cloud]:
    """The emulator's control plane in this event loop."""
    if runs_elsewhere():
        pytest.skip("the emulator speaks another release's messages than the SDK of this process")
    faults = Faults()
    async with serving(clock or RealClock(), faults, limits) as control_plane:
        define(control_plane)
        monkeypatch.setenv("MODAL_SERVER_URL", control_plane.server_url)
        client = await modal.Client.from_credentials.aio(TOKEN.token_id, TOKEN.token_secret)
        yield Cloud(client, PROXY_HEADERS, control_plane, faults)
        await close(client)
