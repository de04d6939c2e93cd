import json

import pytest

from yapit import errors
from yapit.contracts import (
    AudioEvent,
    DoneEvent,
    ErrorEvent,
    SynthesisParameters,
    Timings,
    WordTiming,
    event_dict,
    parse_event,
)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("text", 5, "text: input should be a valid string (found 5)"),
        ("text", "\ud800", "text: holds a lone surrogate"),
        ("voice", "../../etc/passwd", "voice: string should match pattern"),
        ("voice", "", "voice: string should match pattern"),
        ("speed", 0, "speed: input should be greater than or equal to 0.25 (found 0)"),
        ("speed", -1, "(found -1)"),
        ("speed", 9, "less than or equal to 4 (found 9)"),
        ("speed", float("nan"), "speed: input should be a finite number (found nan)"),
        ("speed", "1.0", "speed: input should be a valid number (found '1.0')"),
        ("codec", "ogg", "codec: input should be 'pcm', 'wav', 'flac', 'mp3', 'opus' or 'aac' (found 'ogg')"),
        ("sample_rate", 1, "sample_rate: input should be greater than or equal to 8000 (found 1)"),
        ("parameters", [], "parameters: input should be a valid dictionary (found [])"),
        ("version", 2, "version: input should be 1 (found 2)"),
        ("colour", "red", "colour: no such field"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_found(field: str, value: object, said: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        SynthesisParameters.parse({"text": "Hello.", "voice": "heart", field: value})
    assert said in str(caught.value)
    assert caught.value.param == field


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match=r"found \[1\]"):
        SynthesisParameters.parse([1])


def test_the_payload_is_what_was_asked_for_and_no_more() -> None:
    job = SynthesisParameters(text="Hello.", voice="heart", codec="opus")
    assert job.payload() == {"text": "Hello.", "voice": "heart", "codec": "opus"}
    assert SynthesisParameters.parse(json.loads(json.dumps(job.payload()))) == job


WORD = WordTiming(word="Hi", start_ms=0.0, end_ms=5.0, text_start=0, text_end=2)
DONE = DoneEvent(
    codec="pcm",
    sample_rate=24_000,
    channels=1,
    duration_ms=5.0,
    characters=2,
    timings=Timings(),
    function="f",
    version="1",
)


@pytest.mark.parametrize(
    "event",
    [
        AudioEvent(seq=0, audio="AAA=", duration_ms=5.0, words=(WORD,), timings=Timings(queue_ms=1.0)),
        AudioEvent(seq=1, audio="", duration_ms=0.0),
        DONE,
        ErrorEvent(code="no_audio", message="none", retryable=False),
    ],
)
def test_events_survive_the_wire(event: AudioEvent | DoneEvent | ErrorEvent) -> None:
    wire = json.dumps(event_dict(event))
    assert parse_event(wire) == event
    assert parse_event(json.loads(wire)) == event


@pytest.mark.parametrize("wire", ["{", "null", '{"type":"audio"}', '{"type":"song"}', '{"type":"done","x":1}'])
def test_what_is_no_event_is_the_upstreams_fault(wire: str) -> None:
    with pytest.raises(errors.UpstreamFailed, match="no event"):
        parse_event(wire)
