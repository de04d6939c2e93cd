"""The functions of this project as Modal classes: the names, and what serves them."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from modal_proto import api_pb2
from starlette.types import ASGIApp

from emulator.engine.policy import PoolLimits
from emulator.engine.worker import Worker
from emulator.modal.blobs import BlobStore
from emulator.modal.control_plane import ControlPlane
from emulator.modal.definitions import Binding, Definition, Method, Settings
from emulator.modal.deploys import OwnDefinition
from emulator.modal.worker import CallContext, InstanceWorker
from yapit.function_spec import MODAL_CLASS, FunctionSpec
from yapit.workers.handlers.modal import ModalWorker

logger = logging.getLogger(__name__)

APP_MODULE = "yapit.workers.handlers.modal_app"


def define(spec: FunctionSpec, blobs: BlobStore) -> Definition:
    """The class that serves a function, in containers with an adapter each."""

    def make_worker(_worker_id: str, _binding: Binding) -> Worker:
        return InstanceWorker(lambda: FunctionInstance(ModalWorker(spec.adapter_class)), blobs)

    methods = (
        Method("synthesize"),
        Method("stream", is_generator=True),
        Method("web", is_web=True, requires_proxy_auth=True),
    )
    limits = PoolLimits(
        min_workers=spec.scaling.min_workers,
        max_workers=spec.scaling.max_workers,
        buffer_workers=spec.modal.buffer_workers,
        concurrency=spec.scaling.concurrency,
        idle_timeout_s=spec.scaling.idle_timeout_s,
    )

    return Definition(
        app_name=spec.deployment_name,
        name=MODAL_CLASS,
        is_class=True,
        methods={method.name: method for method in methods},
        make_worker=make_worker,
        settings=Settings(limits, float(spec.modal_timeout_s)),
    )


def own(specs: Mapping[str, FunctionSpec]) -> OwnDefinition:
    """Of what is deployed, what is ours: our module, under the name that it gives to one of these functions."""
    by_app = {spec.deployment_name: spec for spec in specs.values()}

    def definition(app_name: str, function: api_pb2.Function, blobs: BlobStore) -> Definition | None:
        is_ours = function.module_name == APP_MODULE and app_name in by_app
        return define(by_app[app_name], blobs) if is_ours else None

    return definition


async def deploy(spec: FunctionSpec, functions_dir: Path, control_plane: ControlPlane) -> None:
    """Deploy a function with Modal's own CLI. Where that fails the log says why, and the function is not there."""
    if not (functions_dir / spec.name / "Dockerfile").is_file():
        logger.warning("function %s has no Dockerfile: it is not deployed to the emulated Modal", spec.name)
        return
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
    ours = {"YAPIT_FUNCTION": spec.name, "FUNCTIONS_DIR": str(functions_dir), "NO_COLOR": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "modal", "deploy", "-m", APP_MODULE),
        env={**inherited, **control_plane.environment(), **ours},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    if process.returncode:
        logger.error("function %s could not be deployed to the emulated Modal:\n%s", spec.name, said.decode())


class FunctionInstance:
    """What the deployed class does, called as the in-process back end calls one."""

    def __init__(self, worker: ModalWorker) -> None:
        self._worker, self._web = worker, worker.web()

    @property
    def methods(self) -> Mapping[str, Callable[..., Any]]:
        return {"synthesize": self._synthesize, "stream": self._stream}

    @property
    def web_apps(self) -> Mapping[str, ASGIApp]:
        return {"web": self._web}

    async def start(self) -> None:
        await self._worker.load()
        await self._worker.start()

    async def stop(self) -> None:
        await self._worker.stop()

    def _synthesize(self, _: CallContext, job_input: object) -> Awaitable[list[dict[str, Any]]]:
        return self._worker.synthesize(job_input)

    def _stream(self, context: CallContext, job_input: object) -> AsyncGenerator[dict[str, Any], None]:
        return self._worker.stream(job_input, context.function_call_id)
