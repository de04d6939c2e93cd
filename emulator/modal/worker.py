"""A container inside this process: an instance of a class, or a function, called as Modal's runtime calls it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from modal_proto import api_pb2
from starlette.types import ASGIApp, Message

from emulator.engine.jobs import Attempt
from emulator.engine.worker import WorkerLost
from emulator.modal import facts, protocol
from emulator.modal.blobs import BlobStore
from emulator.modal.call import Input
from emulator.modal.results import Chunk, StartFailed, failure, success, success_in_blob
from emulator.modal.web_exchange import WebExchange

logger = logging.getLogger(__name__)

MAX_STREAMED_BYTES = 256 * 1024 * 1024
"""The emulator's own bound on what one generator may yield: it is kept until the call is."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a method may know of the call that it serves."""

    function_call_id: str
    input_id: str
    retry_count: int


@dataclass(frozen=True, slots=True)
class Blocking:
    """A function that blocks: it gets a thread of its own. Nothing can stop that, so where its input is cancelled the
    container dies, and what runs beside it begins again elsewhere, as at Modal under `@modal.concurrent` [M]."""

    function: Callable[..., Any]


class Instance(Protocol):
    """An object that serves calls. `start` is its cold start (Modal's `enter`), `stop` its end (Modal's `exit`)."""

    @property
    def methods(self) -> Mapping[str, Callable[..., Any] | Blocking]:
        """Coroutine functions and async generator functions, called as `method(context, *args, **kwargs)`."""

    @property
    def web_apps(self) -> Mapping[str, ASGIApp]:
        """What serves the web methods. No lifespan is run: that is `start` and `stop`."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class InstanceWorker:
    """`make` makes the instance; what it raises, or its `start`, is what callers are told."""

    def __init__(self, make: Callable[[], Instance], blobs: BlobStore) -> None:
        self._make, self._blobs = make, blobs
        self._instance: Instance | None = None

    async def start(self) -> None:
        try:
            self._instance = self._make()
            await self._instance.start()
        except Exception as error:
            raise StartFailed(failure(repr(error), traceback.format_exc())) from error

    async def stop(self) -> None:
        if self._instance is not None:
            await self._instance.stop()

    async def run(self, attempt: Attempt) -> None:
        assert self._instance is not None  # noqa: S101 - the pool starts a worker before it gives it jobs
        served: Input = attempt.input
        try:
            if served.web is not None:
                await self._serve_web(self._instance.web_apps[served.method], served.web, attempt)
            else:
                await self._call(self._instance.methods[served.method], served, attempt)
        except WorkerLost:
            raise
        except Exception as error:
            logger.info("input %s failed", attempt.job_id, exc_info=True)
            attempt.fail(repr(error), failure(repr(error), traceback.format_exc()))

    async def _call(self, method: Callable[..., Any] | Blocking, served: Input, attempt: Attempt) -> None:
        context = CallContext(served.function_call_id, served.input_id, served.retry_count)
        args, kwargs = protocol.decode_arguments(self._payload(served.message))
        if isinstance(method, Blocking):
            returned: Any = _in_thread(method.function, context, *args, **kwargs)
        else:
            returned = method(context, *args, **kwargs)
        if inspect.isasyncgen(returned):
            items: AsyncGenerator[Any, Any] = returned
            await self._stream(attempt, items)
            return
        data = protocol.encode(await returned)
        is_large = len(data) > facts.MAX_INLINE_BYTES
        attempt.complete(success_in_blob(self._blobs.put(data)) if is_large else success(data))

    async def _stream(self, attempt: Attempt, generator: AsyncGenerator[Any, None]) -> None:
        items = streamed_bytes = 0
        async with aclosing(generator):
            async for item in generator:
                data = protocol.encode(item)
                streamed_bytes += len(data)
                if streamed_bytes > MAX_STREAMED_BYTES:
                    raise OverflowError(f"yielded over {MAX_STREAMED_BYTES:,} bytes, more than the emulator keeps")
                is_large = len(data) > facts.MAX_INLINE_BYTES
                attempt.add_chunk(Chunk(data_blob_id=self._blobs.put(data)) if is_large else Chunk(data))
                items += 1
                await asyncio.sleep(0)  # at Modal an RPC is awaited here: others get their turn
        done = api_pb2.GeneratorDone(items_total=items)
        attempt.complete(success(done, protocol.GENERATOR_DONE))

    async def _serve_web(self, app: ASGIApp, exchange: WebExchange, attempt: Attempt) -> None:
        async def send(message: Message) -> None:
            attempt.add_chunk(message)
            await asyncio.sleep(0)

        await app(dict(exchange.scope), exchange.reader(), send)
        attempt.complete(success(b""))

    def _payload(self, message: api_pb2.FunctionInput) -> bytes:
        if not message.args_blob_id:
            return message.args
        data = self._blobs.get(message.args_blob_id)
        if data is None:
            raise LookupError(f"there is no blob {message.args_blob_id!r} any more")
        return data


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except asyncio.CancelledError:
        raise WorkerLost("an input that blocks was cancelled") from None
