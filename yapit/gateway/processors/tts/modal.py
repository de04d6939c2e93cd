"""Classes deployed at Modal. Which way a job takes:

1. `spawn`, then `FunctionCall.get`, where its deadline is beyond `LONG_JOB_S`: nobody listens that long, and a spawned
   call's result survives our connection.
2. the class's web endpoint, where it has one and a proxy token is set: one round trip to the first audio, and closing
   the connection stops the work.
3. `remote`, where the text is so short that its audio comes in one piece anyway: one answer, and no stream besides.
4. `remote_gen` otherwise.

Whoever leaves 1 or 4 has the call cancelled by its id, which for a generator is its first item. The container goes on
serving others. The few seconds of a short text (3) run to their end: the SDK does not tell the id (modal 1.6.4).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Annotated, Any

import httpx
import pydantic

from yapit.contracts import AudioEvent, DoneEvent, Event, SynthesisJob, parse_event
from yapit.errors import UpstreamFailed, YapitError
from yapit.gateway.processors.tts import base
from yapit.gateway.processors.tts.connections import PooledTransport
from yapit.gateway.processors.tts.http_worker import HttpWorker
from yapit.gateway.processors.tts.modal_class import ClassName, Handles, ModalClass
from yapit.gateway.processors.tts.modal_web import ResultUrls, refusal
from yapit.gateway.routes import Route

LONG_JOB_S = 3_600.0
MAX_WHOLE_CHARACTERS = 200
"""About 15 s of speech, in one or two sentences."""
END_TIMEOUT_S = 120.0
"""A generator's id is known when a container runs it: whoever leaves before waits for that, a cold start long."""
CLOSE_TIMEOUT_S = 10.0
_NAME = r"^[A-Za-z0-9_.-]{1,64}$"


class ModalOptions(base.Options):
    modal_app: Annotated[str, pydantic.Field(pattern=_NAME)]
    modal_class: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z_]\w{0,63}$")]
    modal_environment: Annotated[str, pydantic.Field(pattern=_NAME)] | None = None


class ModalProcessor(base.BaseTTSProcessor):
    Options = ModalOptions

    def __init__(self, route: Route, context: base.Context) -> None:
        super().__init__(route, context)
        options, settings = self.options, context.settings
        name = ClassName(options.modal_app, options.modal_class, options.modal_environment or "")
        self._modal = ModalClass(name, settings, slug=self.slug)
        key, secret = settings.modal_key.get_secret_value(), settings.modal_secret.get_secret_value()
        self._proxy_token = {"Modal-Key": key, "Modal-Secret": secret} if key and secret else None
        self._client = httpx.AsyncClient(
            transport=context.transport or PooledTransport(route.max_parallel),
            timeout=httpx.Timeout(None, connect=5.0),  # the job's deadline bounds the rest
        )
        self._worker = HttpWorker(self._client, slug=self.slug, where="web endpoint", refusal=refusal(self.slug))
        self._endings: set[asyncio.Task[None]] = set()

    async def _events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        handles = await self._modal.handles()
        submitted_at = time.perf_counter()
        async with aclosing(self._way(job, handles)) as events:
            async for event in events:
                if isinstance(event, AudioEvent) and event.timings:
                    event = base.with_providers_queue(event, (time.perf_counter() - submitted_at) * 1000)
                yield event

    def _way(self, job: SynthesisJob, handles: Handles) -> AsyncGenerator[Event, None]:
        if job.deadline_s > LONG_JOB_S:
            return self._spawned(job, handles)
        if handles.web_url and self._proxy_token:
            return self._from_web(job, handles.web_url, self._proxy_token)
        if len(job.parameters.text) <= MAX_WHOLE_CHARACTERS:
            return self._whole(job, handles)
        return self._streamed(job, handles)

    async def _spawned(self, job: SynthesisJob, handles: Handles) -> AsyncGenerator[Event, None]:
        spawning = asyncio.ensure_future(handles.synthesize.spawn.aio(job.parameters.payload()))
        is_over = False
        try:
            with self._modal.translated():
                # shielded: a call that Modal has taken must be cancelled there, and for that its id is needed
                call = await asyncio.shield(spawning)
                output = await call.get.aio()
            is_over = True
        finally:
            if not is_over:
                self._end_soon(_object_id(spawning))
        for event in self._all(output):
            yield event

    async def _whole(self, job: SynthesisJob, handles: Handles) -> AsyncGenerator[Event, None]:
        with self._modal.translated():
            output = await handles.synthesize.remote.aio(job.parameters.payload())
        for event in self._all(output):
            yield event

    async def _streamed(self, job: SynthesisJob, handles: Handles) -> AsyncGenerator[Event, None]:
        items = handles.stream.remote_gen.aio(job.parameters.payload())
        first, is_over = asyncio.ensure_future(self._call_id(items)), False
        try:
            with self._modal.translated():
                await asyncio.shield(first)  # as above
                async for item in items:
                    if _is_call(item):  # its container was lost, and another began again
                        continue
                    event = parse_event(item)
                    is_over = not isinstance(event, AudioEvent)
                    yield event
        finally:
            self._end_soon(None if is_over else first, items)

    async def _from_web(self, job: SynthesisJob, url: str, proxy_token: dict[str, str]) -> AsyncGenerator[Event, None]:
        results = ResultUrls(self.slug, proxy_token)
        is_over = False
        try:
            async with aclosing(self._worker.events(url, job, proxy_token, follow=results.follow)) as events:
                async for event in events:
                    is_over = not isinstance(event, AudioEvent)
                    yield event
        finally:
            if results.call_id and not is_over:  # the connection that is closed now is not the one that carried the job
                self._end_soon(_known(results.call_id))

    def _all(self, output: object) -> list[Event]:
        """The events of a whole answer. What is known at its end of where the time went, the first audio tells."""
        if not isinstance(output, list) or not output:
            raise UpstreamFailed(f"{self.slug}: Modal answered {type(output).__name__} instead of the job's events")
        events = [parse_event(item) for item in output]
        first, last = events[0], events[-1]
        if isinstance(first, AudioEvent) and isinstance(last, DoneEvent):
            events[0] = first.model_copy(update={"timings": last.timings})
        return events

    async def _call_id(self, items: AsyncGenerator[Any, None]) -> str:
        """What the first item says."""
        item: Any = await anext(items, None)
        if not _is_call(item):
            raise UpstreamFailed(f"{self.slug}: the stream began with {type(item).__name__} instead of its call's id")
        return str(item["call_id"])

    def _end_soon(self, call_id: Awaitable[str] | None, items: AsyncGenerator[Any, None] | None = None) -> None:
        """Cancel at Modal, or read the generator of a call that is over to its end, without holding up whoever listened
        to it; `close` waits for it."""
        task = asyncio.create_task(self._end(call_id, items))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _end(self, call_id: Awaitable[str] | None, items: AsyncGenerator[Any, None] | None) -> None:
        try:
            with self._modal.translated():
                async with asyncio.timeout(END_TIMEOUT_S):
                    if call_id is not None:
                        await self._modal.cancel(await call_id)
                    elif items is not None:
                        async for _ in items:
                            pass
        except YapitError:
            pass  # never taken, over already, or out of reach: the function's own time limit ends it
        finally:
            if items is not None:
                await items.aclose()

    async def is_ready(self) -> bool:
        return await self._modal.answers()

    async def close(self) -> None:
        if self._endings:
            _, late = await asyncio.wait(self._endings, timeout=CLOSE_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._modal.close()
        await self._client.aclose()


def _is_call(item: object) -> bool:
    return isinstance(item, dict) and item.get("type") == "call"


async def _object_id(spawning: Awaitable[Any]) -> str:
    return str((await spawning).object_id)


async def _known(call_id: str) -> str:
    return call_id
