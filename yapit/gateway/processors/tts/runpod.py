"""RunPod endpoints over their HTTP APIs, without the SDK: its client polls once a second (runpod 1.12.0).

Load-balancing endpoints stream: see `runpod_balanced`. At a queue endpoint a job is `POST /run`, then
`GET /stream/{id}?wait=` until a final status: at most one request is out per job, and each returns as soon as there is
a chunk. `/stream` hands every chunk out once: where some were lost, or RunPod ran the job a second time, the rest of
the job's whole output is fetched when it is complete.

A lost answer to `/run` is told as an error, and not tried again here: RunPod knows no idempotency key and lets nobody
choose a job's id, so that whether it has the job cannot be found out, and a second `/run` may pay for the work twice.
A job that nobody knows of ends by its policy, which is the deadline of the request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

import httpx
import pydantic

from yapit.contracts import AudioEvent, Event, SynthesisJob, parse_event
from yapit.errors import (
    JobCancelled,
    NotConfigured,
    Overloaded,
    SynthesisTimeout,
    TruncatedStream,
    UpstreamFailed,
    UpstreamRefused,
    WorkerUnavailable,
    YapitError,
)
from yapit.gateway.processors.tts import base
from yapit.gateway.processors.tts.connections import PooledTransport
from yapit.gateway.processors.tts.heard import Heard
from yapit.gateway.processors.tts.runpod_balanced import BalancedEndpoint
from yapit.gateway.routes import Route

STREAM_WAIT_MS = 30_000
"""How long one `/stream` call may be held: RunPod takes 1,000 to 300,000 (runpod-mcp); cold sync routes met a proxy
timeout at 100 s (golden path 20)."""
_UNFINISHED = {"IN_QUEUE", "IN_PROGRESS"}
_MIN_TIMEOUT_MS, _MIN_TTL_MS = 5_000, 10_000  # RunPod's own lower bounds for a job's policy (docs)
_CANCEL_TIMEOUT_S = 10.0
_SETTLE_WAIT_MS = 5_000
"""How long RunPod may take to see the end of a job whose last event it has already handed out."""
_POLL_AGAIN_AFTER_S = (0.0, 0.2, 0.4, 0.8, 1.6)
"""Asking again what changes nothing: pauses between the attempts. RunPod asked to wait longer is waited for longer."""


class RunpodOptions(base.Options):
    runpod_endpoint_id: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_-]+$")]
    endpoint_type: Literal["queue", "load_balancer"] = "queue"


class RunpodProcessor(base.BaseTTSProcessor):
    Options = RunpodOptions

    def __init__(self, route: Route, context: base.Context) -> None:
        super().__init__(route, context)
        key = context.settings.runpod_api_key.get_secret_value()
        if not key:
            raise NotConfigured(f"route {route.slug}: RUNPOD_API_KEY is not set")
        self._base = f"{context.settings.runpod_api_base.rstrip('/')}/{self.options.runpod_endpoint_id}"
        self._client = httpx.AsyncClient(
            transport=context.transport or PooledTransport(route.max_parallel),
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(None, connect=5.0),  # the job's deadline bounds the rest, or `_call`
        )
        url = context.settings.runpod_lb_base.rstrip("/").replace("{id}", self.options.runpod_endpoint_id)
        self._balanced = BalancedEndpoint(self._client, url=url, slug=route.slug)
        self._endings: set[asyncio.Task[None]] = set()

    def _events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        return self._queued(job) if self.options.endpoint_type == "queue" else self._balanced.events(job)

    async def _queued(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        submission = asyncio.ensure_future(self._submit(job))
        heard, is_final, is_over = Heard(), False, False
        try:
            # shielded: a job that RunPod has taken must be cancelled there, and for that its id is needed
            provider_id = await asyncio.shield(submission)
            accepted_at = time.perf_counter()
            while not is_final:
                answer = await self._poll(f"/stream/{provider_id}", STREAM_WAIT_MS)
                is_final = answer.get("status") not in _UNFINISHED
                events = self._chunks(answer)
                if not heard.is_continued_by(events, is_final=is_final):
                    events = heard.rest_of(await self._whole_output(provider_id))
                    is_final = True
                for event in events:
                    is_over = not isinstance(event, AudioEvent)
                    if isinstance(event, AudioEvent):
                        heard.add(event)
                        if event.timings:
                            event = base.with_providers_queue(event, (time.perf_counter() - accepted_at) * 1000)
                    yield event
        finally:
            if not is_final:
                self._end_soon(submission, is_over=is_over)

    async def _submit(self, job: SynthesisJob) -> str:
        # Both from the time that we wait: the wait in the queue counts for the second only, but a worker that has just
        # started initialises its model within the execution of its first job.
        limit_ms = int(job.longest_s * 1000)
        policy = {"executionTimeout": max(_MIN_TIMEOUT_MS, limit_ms), "ttl": max(_MIN_TTL_MS, limit_ms)}
        answer = await self._call("POST", "/run", json={"input": job.parameters.payload(), "policy": policy})
        if not isinstance(provider_id := answer.get("id"), str) or not provider_id.replace("-", "").isalnum():
            raise UpstreamFailed(f"{self.slug}: RunPod accepted the job without giving it an id")
        return provider_id

    async def _poll(self, path: str, wait_ms: int) -> dict[str, Any]:
        """RunPod's answer once there is something new; asked for again where it is lost."""
        for pause_s in _POLL_AGAIN_AFTER_S:
            try:
                return await self._call("GET", path, is_accepted=True, params={"wait": wait_ms})
            except UpstreamRefused:
                raise
            except Overloaded as error:
                await asyncio.sleep(max(pause_s, error.retry_after_s or 0.0))
            except (UpstreamFailed, WorkerUnavailable):
                await asyncio.sleep(pause_s)
        return await self._call("GET", path, is_accepted=True, params={"wait": wait_ms})

    def _chunks(self, answer: dict[str, Any]) -> list[Event]:
        self._check_status(answer)
        chunks = answer.get("stream", [])
        if not isinstance(chunks, list) or not all(isinstance(chunk, dict) for chunk in chunks):
            raise UpstreamFailed(f"{self.slug}: RunPod's stream answer has no list of chunks")
        return [parse_event(chunk.get("output")) for chunk in chunks]

    async def _whole_output(self, provider_id: str) -> list[Event]:
        """All events of a job, once it is complete: the caller's deadline bounds how long that takes."""
        answer: dict[str, Any] = {"status": "IN_QUEUE"}
        while answer.get("status") in _UNFINISHED:
            answer = await self._poll(f"/status-sync/{provider_id}", STREAM_WAIT_MS)
        self._check_status(answer)
        output = answer.get("output")
        if not isinstance(output, list):
            raise TruncatedStream(f"{self.slug}: RunPod completed the job without its output")
        return [parse_event(item) for item in output]

    def _check_status(self, answer: dict[str, Any]) -> None:
        """Raises what the job's failure means, if it failed."""
        status = answer.get("status")
        if status in _UNFINISHED or status == "COMPLETED":
            return
        reason = str(answer.get("error", ""))[:300]
        if status == "CANCELLED":
            raise JobCancelled(f"{self.slug}: the job was cancelled at RunPod")
        if status == "TIMED_OUT" or "executionTimeout" in reason or "timed out" in reason:
            raise SynthesisTimeout(f"{self.slug}: RunPod gave up on the job: {reason or status}")
        if status == "FAILED":
            raise UpstreamFailed(f"{self.slug}: the job failed at RunPod")
        raise UpstreamFailed(f"{self.slug}: RunPod reports the unknown status {status!r}")

    async def _call(self, method: str, path: str, *, is_accepted: bool = False, **arguments: Any) -> dict[str, Any]:
        try:
            # a held /stream answers within its wait; the margin is for the way
            timeout = httpx.Timeout(STREAM_WAIT_MS / 1000 + 10, connect=5.0)
            response = await self._client.request(method, self._base + path, timeout=timeout, **arguments)
        except httpx.RequestError as error:
            raise WorkerUnavailable(f"{self.slug}: RunPod cannot be reached ({type(error).__name__})") from error
        if response.status_code != 200:
            if response.status_code == 404 and is_accepted:
                raise SynthesisTimeout(f"{self.slug}: RunPod has deleted the job, whose time to live is over (404)")
            raise self._refusal(response)
        return base.json_object(response, sender=f"{self.slug}: RunPod")

    def _refusal(self, response: httpx.Response) -> YapitError:
        status = response.status_code
        if status in (401, 403):
            return UpstreamRefused(f"{self.slug}: RunPod refused the API key ({status}); check RUNPOD_API_KEY")
        if status == 404:
            return UpstreamRefused(f"{self.slug}: RunPod knows no such endpoint or job (404); check runpod_endpoint_id")
        if status == 429:
            message = f"{self.slug}: RunPod limits the rate (429)"
            return Overloaded(message, retry_after_s=base.retry_after_s(response))
        if status >= 500:
            return UpstreamFailed(f"{self.slug}: RunPod answered {status}")
        return UpstreamRefused(f"{self.slug}: RunPod answered {status}")

    def _end_soon(self, submission: asyncio.Future[str], *, is_over: bool) -> None:
        """See to it that the job ends at RunPod, without holding up whoever left; `close` waits for it."""
        task = asyncio.create_task(self._end(submission, is_over=is_over))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _end(self, submission: asyncio.Future[str], *, is_over: bool) -> None:
        """Cancel it. One whose last event was heard gets a moment to complete: its result may be on the way."""
        try:
            async with asyncio.timeout(_CANCEL_TIMEOUT_S):
                provider_id = await submission
                status = {"status": "IN_PROGRESS"}
                if is_over:
                    status = await self._call("GET", f"/status-sync/{provider_id}", params={"wait": _SETTLE_WAIT_MS})
                if status.get("status") in _UNFINISHED:
                    await self._call("POST", f"/cancel/{provider_id}")
        except (YapitError, TimeoutError):
            pass  # never submitted, over already, or out of reach: its policy ends it at RunPod

    async def is_ready(self) -> bool:
        try:
            await self._call("GET", "/health")
        except YapitError:
            return False
        return True

    async def close(self) -> None:
        await asyncio.gather(*self._endings)
        await self._client.aclose()
