"""The only place a job is run: validate → split → speak → encode → events with timings."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from yapit import audio
from yapit.contracts import (
    MAX_EVENT_AUDIO_BYTES,
    AudioEvent,
    DoneEvent,
    ErrorEvent,
    Event,
    PcmChunk,
    SynthesisParameters,
    Timings,
    WordTiming,
)
from yapit.errors import (
    AdapterFailed,
    ConfigurationError,
    WorkerUnavailable,
    YapitError,
)
from yapit.function_spec import FunctionSpec
from yapit.places import Places
from yapit.text import check_text, split_text
from yapit.workers.adapters.base import BYTES_PER_SAMPLE, SynthAdapter
from yapit.workers.pieces import Call, speak

logger = logging.getLogger(__name__)

_INLINE_CODECS = ("pcm", "wav")  # nothing to compute: a thread would cost more than the work


class Runner:
    """Runs the jobs of one worker: one adapter, initialised once, `scaling.concurrency` jobs at a time.

    `places` tells how many run and wait.
    """

    def __init__(self, adapter: SynthAdapter, spec: FunctionSpec) -> None:
        self.adapter, self.spec = adapter, spec
        self.places = Places(spec.name, limit=spec.scaling.concurrency, max_waiting=spec.scaling.max_queue)
        self._starting: asyncio.Task[None] | None = None
        self._is_loaded = self._is_closed = False

    @property
    def is_ready(self) -> bool:
        task = self._starting
        return task is not None and task.done() and not task.cancelled() and task.exception() is None

    @property
    def failure(self) -> BaseException | None:
        """What the last attempt to initialise the adapter ended with, if it failed."""
        task = self._starting
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    async def load(self) -> None:
        """What of the start may be done before a snapshot of memory is taken: the adapter's `load`, once.

        Raises as `start` does.
        """
        await self._cold(self._load)

    async def start(self) -> None:
        """Load and initialise the adapter, once for all callers; after a failure the next call tries again.

        Raises `WorkerUnavailable`, or `ConfigurationError` where trying again cannot help.
        """
        if self._starting is None or (self._starting.done() and not self.is_ready):
            self._starting = asyncio.create_task(self._initialize())
        # shielded: the first caller leaving must not stop the cold start that others wait for
        await asyncio.shield(self._starting)

    async def close(self) -> None:
        """Stop, once: whoever comes second, such as a web server's shutdown after the worker's own, changes nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await self.adapter.close()

    async def run(self, job_input: object) -> AsyncGenerator[Event, None]:
        """The events of one job. Never raises: whatever goes wrong is its last event, an `ErrorEvent`.

        Close it, or cancel the task that reads it, to stop the work.
        """
        try:
            job = SynthesisParameters.parse(job_input)
            check_text(job.text, max_characters=self.spec.input.max_characters)
            call = self._call(job)
            asked_at = time.perf_counter()
            async with self.places.hold():
                queued_at = time.perf_counter()
                if not self.is_ready:
                    await self.start()
                started_at = time.perf_counter()
                timings = Timings(queue_ms=_ms(asked_at, queued_at), cold_start_ms=_ms(queued_at, started_at))
                async with aclosing(self._speak(job, call, timings)) as events:
                    async for event in events:
                        yield event
        except YapitError as error:
            yield ErrorEvent.of(error)
        except Exception as error:
            logger.exception("adapter of function %s failed", self.spec.name)
            # the message of a foreign exception may hold paths or secrets: it stays in the worker's log
            yield ErrorEvent.of(AdapterFailed(f"the adapter of {self.spec.name} raised {type(error).__name__}"))

    def _call(self, job: SynthesisParameters) -> Call:
        return Call(
            voice=job.voice,
            speed=job.speed,
            parameters=self.spec.adapter_parameters(job),
            parallel_pieces=self.spec.input.parallel_pieces,
            timeout_s=self.spec.timeouts.job_s,
        )

    async def _load(self) -> None:
        if not self._is_loaded:
            await self.adapter.load()
            self._is_loaded = True

    async def _load_and_initialize(self) -> None:
        await self._load()
        await self.adapter.initialize()

    async def _cold(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` within the cold start's budget. Raises what `start` promises."""
        limit_s = self.spec.timeouts.cold_start_s
        try:
            async with asyncio.timeout(limit_s):
                await work()
        except TimeoutError:
            raise WorkerUnavailable(f"{self.spec.name} was not ready within {limit_s:g} s") from None
        except YapitError:
            raise
        except Exception as error:
            logger.exception("function %s failed to initialise", self.spec.name)
            raise WorkerUnavailable(f"{self.spec.name} failed to start: {type(error).__name__}") from error

    async def _initialize(self) -> None:
        await self._cold(self._load_and_initialize)
        found, told = (self.adapter.sample_rate, self.adapter.channels), (self.spec.sample_rate, self.spec.channels)
        if found != told:
            raise ConfigurationError(
                f"{self.spec.name}: the adapter makes {found[0]} Hz × {found[1]} channel(s), "
                f"its spec says {told[0]} Hz × {told[1]}"
            )

    async def _speak(self, job: SynthesisParameters, call: Call, timings: Timings) -> AsyncGenerator[Event, None]:
        limits = self.spec.input
        pieces = split_text(
            job.text,
            max_characters=limits.max_piece_characters,
            by_sentence=limits.split == "sentence",
            language=self._language(job.voice),
        )
        encoding = _Encoding(job, self.adapter)
        synthesis_s, asked_at = 0.0, time.perf_counter()

        def timings_so_far() -> Timings:
            spent_ms = {"synthesis_ms": round(synthesis_s * 1000, 3), "encode_ms": round(encoding.encode_s * 1000, 3)}
            return timings.model_copy(update=spent_ms)

        async with aclosing(speak(self.adapter, pieces, call)) as chunks:
            async for chunk in chunks:
                synthesis_s += time.perf_counter() - asked_at
                async for event in encoding.events(chunk):
                    yield event.model_copy(update={"timings": timings_so_far()}) if event.seq == 0 else event
                asked_at = time.perf_counter()
        synthesis_s += time.perf_counter() - asked_at
        async for event in encoding.events(None):
            yield event.model_copy(update={"timings": timings_so_far()}) if event.seq == 0 else event
        yield DoneEvent(
            codec=job.codec,
            sample_rate=encoding.sample_rate,
            channels=encoding.channels,
            duration_ms=round(encoding.duration_ms, 3),
            characters=len(job.text),
            timings=timings_so_far(),
            function=self.spec.name,
            version=self.spec.version,
        )

    def _language(self, voice_slug: str) -> str:
        voice = self.spec.voice(voice_slug)
        return (voice.language if voice else self.spec.languages[0]).partition("-")[0]


class _Encoding:
    """PCM chunks in, audio events out, none larger than `MAX_EVENT_AUDIO_BYTES`."""

    def __init__(self, job: SynthesisParameters, adapter: SynthAdapter) -> None:
        self.duration_ms = self.encode_s = 0.0
        self._bytes_per_ms = adapter.sample_rate * adapter.channels * BYTES_PER_SAMPLE / 1000
        self._is_inline = job.codec in _INLINE_CODECS and job.sample_rate is None and job.channels is None
        self._seq = 0
        self._untold_ms = 0.0
        self._untold_words: tuple[WordTiming, ...] = ()
        self._encoder, self.sample_rate, self.channels = audio.open_encoder(
            job.codec,
            sample_rate=adapter.sample_rate,
            channels=adapter.channels,
            output_sample_rate=job.sample_rate,
            output_channels=job.channels,
        )

    async def events(self, chunk: PcmChunk | None) -> AsyncIterator[AudioEvent]:
        """The events that `chunk`, or the end of the speech, gives rise to."""
        started_at = time.perf_counter()
        if chunk is None:
            data = self._encoder.close() if self._is_inline else await asyncio.to_thread(self._encoder.close)
        else:
            chunk_ms = len(chunk.pcm) / self._bytes_per_ms
            self.duration_ms += chunk_ms
            self._untold_ms += chunk_ms
            self._untold_words += chunk.words
            encode = self._encoder.encode
            data = encode(chunk.pcm) if self._is_inline else await asyncio.to_thread(encode, chunk.pcm)
        self.encode_s += time.perf_counter() - started_at
        for start in range(0, len(data), MAX_EVENT_AUDIO_BYTES):
            yield self._event(data[start : start + MAX_EVENT_AUDIO_BYTES])
        if chunk is None and self._untold_words:  # the encoder had sent all its bytes before
            yield self._event(b"")

    def _event(self, data: bytes) -> AudioEvent:
        event = AudioEvent(
            seq=self._seq,
            audio=base64.b64encode(data).decode("ascii"),
            duration_ms=round(self._untold_ms, 3),
            words=self._untold_words or None,
        )
        self._seq += 1
        self._untold_ms, self._untold_words = 0.0, ()
        return event


def _ms(start_s: float, end_s: float) -> float:
    return round((end_s - start_s) * 1000, 3)
