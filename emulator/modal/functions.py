"""The functions of this project as Modal classes: the names, and what serves them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from emulator.engine.policy import PoolLimits
from emulator.engine.worker import Worker
from emulator.modal.definitions import Definition, Method, Parameters
from emulator.modal.worker import CallContext, InstanceWorker
from yapit.function_spec import MODAL_CLASS, FunctionSpec
from yapit.workers.handlers.modal import ModalWorker


def define(spec: FunctionSpec) -> Definition:
    """The class that serves a function, in containers with an adapter each."""

    def make_worker(_worker_id: str, _parameters: Parameters) -> Worker:
        return InstanceWorker(lambda: FunctionInstance(ModalWorker(spec.adapter_class)))

    return Definition(
        app_name=spec.deployment_name,
        name=MODAL_CLASS,
        is_class=True,
        methods={"synthesize": Method("synthesize"), "stream": Method("stream", is_generator=True)},
        make_worker=make_worker,
        limits=PoolLimits(
            min_workers=spec.scaling.min_workers,
            max_workers=spec.scaling.max_workers,
            concurrency=spec.scaling.concurrency,
            idle_timeout_s=spec.scaling.idle_timeout_s,
        ),
        timeout_s=spec.timeouts.job_s,
    )


class FunctionInstance:
    """What the deployed class does, called as the in-process back end calls one."""

    def __init__(self, worker: ModalWorker) -> None:
        self._worker = worker

    @property
    def methods(self) -> Mapping[str, Callable[..., Any]]:
        return {"synthesize": self._synthesize, "stream": self._stream}

    async def start(self) -> None:
        await self._worker.load()
        await self._worker.start()

    async def stop(self) -> None:
        await self._worker.stop()

    def _synthesize(self, _: CallContext, job_input: object) -> Awaitable[list[dict[str, Any]]]:
        return self._worker.synthesize(job_input)

    def _stream(self, context: CallContext, job_input: object) -> AsyncGenerator[dict[str, Any], None]:
        return self._worker.stream(job_input, context.function_call_id)
