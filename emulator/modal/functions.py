"""The functions of this project as Modal classes: the names, and what serves them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from emulator.engine.policy import PoolLimits
from emulator.engine.worker import Worker
from emulator.modal.definitions import Definition, Method, Parameters
from emulator.modal.worker import CallContext, InstanceWorker
from yapit.contracts import event_dict
from yapit.function_spec import FunctionSpec
from yapit.workers.loading import load_runner
from yapit.workers.runner import Runner

CLASS_NAME = "TTS"


def app_name(function: str) -> str:
    return f"yapit-{function}"


def define(spec: FunctionSpec) -> Definition:
    """The class that serves a function, in containers with an adapter each."""

    def make_worker(_worker_id: str, _parameters: Parameters) -> Worker:
        return InstanceWorker(lambda: FunctionInstance(load_runner(spec.adapter_class)))

    return Definition(
        app_name=app_name(spec.name),
        name=CLASS_NAME,
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
    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @property
    def methods(self) -> Mapping[str, Callable[..., Any]]:
        return {"synthesize": self._synthesize, "stream": self._stream}

    async def start(self) -> None:
        await self._runner.start()

    async def stop(self) -> None:
        await self._runner.close()

    async def _synthesize(self, _: CallContext, job_input: object) -> list[dict[str, Any]]:
        async with aclosing(self._runner.run(job_input)) as events:
            return [event_dict(event) async for event in events]

    async def _stream(self, context: CallContext, job_input: object) -> AsyncGenerator[dict[str, Any], None]:
        yield {"type": "call", "call_id": context.function_call_id}
        async with aclosing(self._runner.run(job_input)) as events:
            async for event in events:
                yield event_dict(event)
