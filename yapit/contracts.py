"""What crosses every boundary: the input of a job, the events it answers with, and their sum.

The same JSON at every provider. A job answers with `AudioEvent`s in order of `seq` (0, 1, 2 …), then with exactly one
`DoneEvent` or `ErrorEvent`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import pydantic

from yapit.errors import InvalidRequest, UpstreamFailed, YapitError

Codec: TypeAlias = Literal["pcm", "wav", "flac", "mp3", "opus", "aac"]

SLUG_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
"""Names of models, as users see them and as entries of `tts_processors.json` have them."""

MIN_SPEED, MAX_SPEED = 0.25, 4.0
MAX_TEXT_CHARACTERS = 1_000_000
"""Bound on any job input whatever its function; a function's own limit is lower (`FunctionSpec.input`)."""
MAX_EVENT_AUDIO_BYTES = 384 * 1024
"""Audio bytes per event: 512 KiB as base64, half of what RunPod takes per stream chunk (1 MB)."""


class _Contract(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class SynthesisParameters(_Contract):
    """Input of one job.

    `speed` is a factor (1 is the voice's own pace). `sample_rate` (Hz) and `channels` ask for a conversion; left out,
    audio comes as the model makes it. `parameters` is checked against the function's own schema.
    """

    version: Literal[1] = 1
    text: Annotated[str, pydantic.Field(max_length=MAX_TEXT_CHARACTERS)]
    voice: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$")]
    speed: Annotated[float, pydantic.Field(ge=MIN_SPEED, le=MAX_SPEED, allow_inf_nan=False)] = 1.0
    codec: Codec = "pcm"
    sample_rate: Annotated[int, pydantic.Field(ge=8_000, le=48_000)] | None = None
    channels: Annotated[int, pydantic.Field(ge=1, le=2)] | None = None
    parameters: dict[str, Any] = pydantic.Field(default_factory=dict)

    @classmethod
    def parse(cls, data: object) -> SynthesisParameters:
        """Raises `InvalidRequest`, naming each field that is wrong and what was found there."""
        try:
            return cls.model_validate(data)
        except pydantic.ValidationError as error:
            raise InvalidRequest.from_validation(error) from None

    def payload(self) -> dict[str, Any]:
        """The JSON that is sent: whatever stands at its default is left out."""
        return self.model_dump(exclude_defaults=True)


class WordTiming(_Contract):
    """When a word sounds, from the start of the job's audio, and where it stands in the job's text (characters)."""

    word: str
    start_ms: float
    end_ms: float
    text_start: int
    text_end: int


class Timings(_Contract):
    """Where a job's time went, in milliseconds. `queue_ms` is time spent waiting for a place in the worker."""

    queue_ms: float = 0.0
    cold_start_ms: float = 0.0
    synthesis_ms: float = 0.0
    encode_ms: float = 0.0


class AudioEvent(_Contract):
    """A piece of encoded audio. `duration_ms` is how much speech went into it (encoders hold some back).

    The first event of a job carries the `timings` so far: that is when a gateway must send its headers.
    """

    type: Literal["audio"] = "audio"
    seq: int
    audio: str
    duration_ms: float
    words: tuple[WordTiming, ...] | None = None
    timings: Timings | None = None

    def decoded(self) -> bytes:
        return base64.b64decode(self.audio)


class DoneEvent(_Contract):
    """The end of a whole job. `sample_rate` and `channels` are those of the audio sent."""

    type: Literal["done"] = "done"
    codec: Codec
    sample_rate: int
    channels: int
    duration_ms: float
    characters: int
    timings: Timings
    function: str
    version: str


class ErrorEvent(_Contract):
    type: Literal["error"] = "error"
    code: str
    message: str
    retryable: bool

    @classmethod
    def of(cls, error: YapitError) -> ErrorEvent:
        return cls(code=error.code, message=error.message, retryable=error.retryable)


Event: TypeAlias = AudioEvent | DoneEvent | ErrorEvent

_EVENT: pydantic.TypeAdapter[Event] = pydantic.TypeAdapter(Annotated[Event, pydantic.Field(discriminator="type")])


def parse_event(data: object) -> Event:
    """An event as a provider delivered it, as JSON text or as the parsed dict.

    Raises `UpstreamFailed` if it is not one.
    """
    try:
        if isinstance(data, str | bytes):
            return _EVENT.validate_json(data)
        return _EVENT.validate_python(data, strict=False)  # JSON has no tuples
    except pydantic.ValidationError as error:
        problem = str(InvalidRequest.from_validation(error))[:300]
        raise UpstreamFailed(f"the worker sent something that is no event: {problem}") from None


def event_dict(event: Event) -> dict[str, Any]:
    """The event as plain JSON types; fields that do not apply are absent."""
    return event.model_dump(mode="json", exclude_none=True)


def event_json(event: Event) -> str:
    """The same as text, without the dict in between: audio makes events large."""
    return event.model_dump_json(exclude_none=True)


@dataclass(frozen=True, slots=True)
class PcmChunk:
    """A piece of speech as an adapter yields it: signed 16-bit little-endian PCM and the words in it, where known.

    Word times count from the start of this call's audio, text positions from the start of this call's text.
    """

    pcm: bytes
    words: tuple[WordTiming, ...] = ()


@dataclass(frozen=True, slots=True)
class SynthesisJob:
    """One request on its way to a provider.

    `deadline_s` bounds the job once its worker is there; `cold_start_s` is how long it may wait for that first, from
    which nothing is taken when the worker is there at once.
    """

    job_id: str
    model: str
    parameters: SynthesisParameters
    deadline_s: float
    cold_start_s: float = 0.0

    @property
    def longest_s(self) -> float:
        """After this nobody waits for it any more."""
        return self.cold_start_s + self.deadline_s


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """A whole clip: the audio of all events, joined."""

    audio: bytes
    done: DoneEvent
    words: tuple[WordTiming, ...]
