"""RunPod load-balancing endpoints: our HTTP worker behind RunPod's edge, which has neither queue nor retries.

While no worker is ready the edge holds a request for up to two minutes, then answers 400 (docs; golden path 14).
Nothing has run by then, so it is asked again until the cold start's budget is spent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx

from yapit.contracts import AudioEvent, Event, SynthesisJob
from yapit.errors import NoWorkerYet, SynthesisTimeout, UpstreamRefused, YapitError
from yapit.gateway.processors.tts import base
from yapit.gateway.processors.tts.http_worker import HttpWorker

NO_WORKER_PAUSE_S = 5.0
"""Between two attempts: the documentation recommends 5 to 10 s."""
_NO_WORKER = ("no workers available", "timed out waiting for worker")
_WRONG_TYPE = "not allowed for QB API"
_PROCESSING_TIMEOUT_STATUS = 524


class BalancedEndpoint:
    """`url` is the endpoint's own. `client` sends the key."""

    def __init__(self, client: httpx.AsyncClient, *, url: str, slug: str) -> None:
        self._url, self._slug = url, slug
        self._worker = HttpWorker(client, slug=slug, where="runpod_endpoint_id", refusal=self._refusal)

    async def events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        """The job's events as the worker sends them. Raises what `HttpWorker.events` raises."""
        submitted_at = time.perf_counter()
        async with aclosing(self._once_there_is_a_worker(job)) as events:
            async for event in events:
                if isinstance(event, AudioEvent) and event.timings:
                    event = base.with_providers_queue(event, (time.perf_counter() - submitted_at) * 1000)
                yield event

    async def _once_there_is_a_worker(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:
        clock = asyncio.get_running_loop().time
        patient_until = clock() + job.cold_start_s
        while True:
            try:
                async with aclosing(self._worker.events(self._url, job)) as events:
                    async for event in events:
                        yield event
                return
            except NoWorkerYet:
                if clock() + NO_WORKER_PAUSE_S > patient_until:
                    raise
            await asyncio.sleep(NO_WORKER_PAUSE_S)

    def _refusal(self, response: httpx.Response) -> YapitError | None:
        """What the edge's own answers mean; the worker's are events."""
        status, said = response.status_code, response.text
        if '"type":"error"' in said:
            return None
        if status == 400 and any(words in said for words in _NO_WORKER):
            return NoWorkerYet(f"{self._slug}: RunPod has no worker for the endpoint yet")
        if _WRONG_TYPE in said:
            return UpstreamRefused(f'{self._slug}: RunPod has a queue endpoint there; set "endpoint_type": "queue"')
        if status in (401, 403):
            return UpstreamRefused(f"{self._slug}: RunPod refused the API key ({status}); check RUNPOD_API_KEY")
        if status == 404:
            return UpstreamRefused(f"{self._slug}: RunPod knows no such endpoint (404); check runpod_endpoint_id")
        if status == _PROCESSING_TIMEOUT_STATUS:
            return SynthesisTimeout(f"{self._slug}: RunPod's load balancer gave up on the job (524)")
        return None
