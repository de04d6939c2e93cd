"""A container inside this process: an instance of a class, or a function, called as Modal's runtime calls it."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from modal_proto import api_pb2

from emulator.engine.jobs import Attempt
from emulator.modal import protocol
from emulator.modal.call import Input
from emulator.modal.results import Chunk, failure, success

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a method may know of the call that it serves."""

    function_call_id: str
    input_id: str
    retry_count: int


class Instance(Protocol):
    """An object that serves calls. `start` is its cold start (Modal's `enter`), `stop` its end (Modal's `exit`)."""

    @property
    def methods(self) -> Mapping[str, Callable[..., Any]]:
        """Coroutine functions and async generator functions, called as `method(context, *args, **kwargs)`."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class InstanceWorker:
    """`make` makes the instance; what it raises, or its `start`, is what callers are told."""

    def __init__(self, make: Callable[[], Instance]) -> None:
        self._make = make
        self._instance: Instance | None = None

    async def start(self) -> None:
        self._instance = self._make()
        await self._instance.start()

    async def stop(self) -> None:
        if self._instance is not None:
            await self._instance.stop()

    async def run(self, attempt: Attempt) -> None:
        assert self._instance is not None  # noqa: S101 - the pool starts a worker before it gives it jobs
        served: Input = attempt.input
        method = self._instance.methods[served.method]
        context = CallContext(served.function_call_id, served.input_id, served.retry_count)
        try:
            args, kwargs = protocol.decode_arguments(served.message.args)
            returned = method(context, *args, **kwargs)
            if inspect.isasyncgen(returned):
                await self._stream(attempt, returned)
            else:
                attempt.complete(success(protocol.encode(await returned)))
        except Exception as error:
            logger.info("input %s failed", attempt.job_id, exc_info=True)
            attempt.fail(repr(error), failure(repr(error), traceback.format_exc()))

    async def _stream(self, attempt: Attempt, generator: Any) -> None:
        items = 0
        async with aclosing(generator):
            async for item in generator:
                attempt.add_chunk(Chunk(protocol.encode(item)))
                items += 1
        done = api_pb2.GeneratorDone(items_total=items)
        attempt.complete(success(done, protocol.GENERATOR_DONE))
