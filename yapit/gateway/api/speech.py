"""`POST /v1/audio/speech`: OpenAI's contract, on open models.

Extensions, all optional: `parameters` (what the model's own schema allows) and `sample_rate` (Hz).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import pydantic
from fastapi import APIRouter, Request
from starlette.responses import Response

from yapit.asgi import StreamedResponse, event_stream_data, prepend, read_json, until_disconnect
from yapit.audio import CONTENT_TYPES
from yapit.contracts import (
    MAX_SPEED,
    MIN_SPEED,
    AudioEvent,
    Codec,
    DoneEvent,
    SynthesisJob,
    SynthesisParameters,
    Timings,
)
from yapit.errors import InvalidRequest, UnknownVoice, YapitError
from yapit.gateway.registry import Model
from yapit.text import check_text

MAX_INPUT_CHARACTERS = 4_096
MAX_BODY_BYTES = 1024 * 1024
PCM_SAMPLE_RATE = 24_000  # OpenAI's pcm is 24 kHz mono without a header to say so
AUDIO_TOKENS_PER_S = 20
"""`usage` counts characters as input tokens and, as output, 20 tokens per second of audio: these models have none."""

router = APIRouter()


class VoiceReference(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    id: str


class SpeechRequest(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    model: str
    input: Annotated[str, pydantic.Field(max_length=MAX_INPUT_CHARACTERS)]
    voice: str | VoiceReference
    instructions: Annotated[str, pydantic.Field(max_length=4_096)] | None = None
    response_format: Codec = "mp3"
    speed: Annotated[float, pydantic.Field(ge=MIN_SPEED, le=MAX_SPEED, allow_inf_nan=False)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"
    parameters: dict[str, Any] = pydantic.Field(default_factory=dict)
    sample_rate: Annotated[int, pydantic.Field(ge=8_000, le=48_000)] | None = None

    def parameters_for(self, model: Model) -> SynthesisParameters:
        """The job input that this request means on `model`. Raises `InvalidRequest`."""
        name = self.voice if isinstance(self.voice, str) else self.voice.id
        extra = dict(self.parameters)
        if self.instructions is not None and "instructions" in model.spec.parameters.get("properties", {}):
            extra["instructions"] = self.instructions  # models without them ignore them, as OpenAI's tts-1 does
        is_bare = self.response_format == "pcm"
        try:
            return SynthesisParameters(
                text=self.input,
                voice=model.voice_slug(name),
                speed=self.speed,
                codec=self.response_format,
                sample_rate=self.sample_rate or (PCM_SAMPLE_RATE if is_bare else None),
                channels=1 if is_bare else None,
                parameters=extra,
            )
        except pydantic.ValidationError as error:
            problem = InvalidRequest.from_validation(error)
            raise (UnknownVoice(str(problem), param="voice") if problem.param == "voice" else problem) from None


@router.post(
    "/v1/audio/speech",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in (*CONTENT_TYPES.values(), "text/event-stream")}}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/SpeechRequest"}}},
        }
    },
)
async def create_speech(request: Request) -> Response:
    """Speak a text. Audio leaves while the rest is still being made."""
    state = request.app.state
    body = await read_json(request, max_bytes=MAX_BODY_BYTES)
    try:
        speech = SpeechRequest.model_validate(body)
    except pydantic.ValidationError as error:
        raise InvalidRequest.from_validation(error) from None
    model = await state.routes.registry.model(speech.model)
    check_text(speech.input, max_characters=MAX_INPUT_CHARACTERS, field="input")
    parameters = speech.parameters_for(model)
    model.check(parameters)
    timeouts = model.spec.timeouts
    deadline_s = min(state.settings.request_timeout_s, timeouts.job_s)
    job = SynthesisJob(request.state.request_id, model.slug, parameters, deadline_s, timeouts.cold_start_s)
    events = state.processors.stream(job)
    # headers wait for the first audio: what fails before it answers with its own status
    first = await until_disconnect(request.receive, anext(events))
    if isinstance(first, AudioEvent) and first.timings:
        request.state.timings = first.timings
    if speech.stream_format == "sse":
        return StreamedResponse(_sse(prepend(first, events), len(speech.input)), media_type="text/event-stream")
    return StreamedResponse(_audio(prepend(first, events)), media_type=CONTENT_TYPES[speech.response_format])


def components() -> dict[str, Any]:
    """OpenAPI schemas of what this module reads by itself, by name."""
    schema = SpeechRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), SpeechRequest.__name__: schema}


async def _audio(events: AsyncGenerator[AudioEvent | DoneEvent, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, AudioEvent) and event.audio:
                yield event.decoded()


async def _sse(events: AsyncGenerator[AudioEvent | DoneEvent, None], characters: int) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(events):
            async for event in events:
                yield _sse_event(event, characters)
    except YapitError as error:
        name = "speech.audio.error"
        yield event_stream_data({"type": name, "error": {"code": error.code, "message": error.message}}, event=name)
        raise


def _sse_event(event: AudioEvent | DoneEvent, characters: int) -> bytes:
    if isinstance(event, AudioEvent):
        name = "speech.audio.delta"
        words = {"words": [word.model_dump() for word in event.words]} if event.words else {}
        return event_stream_data({"type": name, "audio": event.audio, **words}, event=name)
    name = "speech.audio.done"
    output = round(event.duration_ms / 1000 * AUDIO_TOKENS_PER_S)
    usage = {"input_tokens": characters, "output_tokens": output, "total_tokens": characters + output}
    return event_stream_data({"type": name, "usage": usage, "duration_ms": event.duration_ms}, event=name)


def server_timing(timings: Timings | None, total_ms: float) -> str:
    """The `Server-Timing` header: what is known when the headers leave, the gateway's own share as the rest."""
    if timings is None:
        return f"gateway;dur={total_ms:.1f}"
    parts = {
        "queue": timings.queue_ms,
        "cold_start": timings.cold_start_ms,
        "synthesis": timings.synthesis_ms,
        "encoding": timings.encode_ms,
    }
    gateway_ms = max(0.0, total_ms - sum(parts.values()))
    return ", ".join(f"{name};dur={value:.1f}" for name, value in {**parts, "gateway": gateway_ms}.items())
