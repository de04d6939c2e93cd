"""Going on with a job's audio from its whole output, however that is cut."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.gateway.test_processors import DONE, ERROR
from yapit.contracts import AudioEvent, Event, WordTiming, parse_event
from yapit.errors import TruncatedStream
from yapit.gateway.processors.tts import heard as module
from yapit.gateway.processors.tts.heard import Heard

AUDIO = bytes(range(200))
BYTES_PER_MS = 10
END = parse_event(DONE)


def words_between(start: int, end: int) -> tuple[WordTiming, ...]:
    """One word every 20 bytes."""
    starts = [at for at in range(0, len(AUDIO), 20) if start <= at < end]
    return tuple(
        WordTiming(word="x", start_ms=at / BYTES_PER_MS, end_ms=at / BYTES_PER_MS + 1, text_start=at, text_end=at + 1)
        for at in starts
    )


def pieces(cuts: list[int]) -> list[AudioEvent]:
    """The audio cut there."""
    bounds = [0, *cuts, len(AUDIO)]
    return [
        AudioEvent(
            seq=seq,
            audio=base64.b64encode(AUDIO[start:end]).decode(),
            duration_ms=(end - start) / BYTES_PER_MS,
            words=words_between(start, end) or None,
        )
        for seq, (start, end) in enumerate(pairwise(bounds))
    ]


def after(events: list[AudioEvent]) -> Heard:
    heard = Heard()
    for event in events:
        heard.add(event)
    return heard


cuts = st.lists(st.integers(0, len(AUDIO)), max_size=6).map(sorted)


@given(first=cuts, second=cuts, count=st.integers(0, 7))
def test_whatever_was_heard_the_rest_completes_it(first: list[int], second: list[int], count: int) -> None:
    before = pieces(first)[:count]
    rest = after(before).rest_of([*pieces(second), END])
    audio = [*before, *(event for event in rest if isinstance(event, AudioEvent))]
    assert b"".join(event.decoded() for event in audio) == AUDIO
    assert [event.seq for event in audio] == list(range(len(audio)))
    assert sum(event.duration_ms for event in audio) == pytest.approx(len(AUDIO) / BYTES_PER_MS, abs=0.01)
    assert tuple(word for event in audio for word in event.words or ()) == words_between(0, len(AUDIO))
    assert rest[-1] is END


@pytest.mark.parametrize("audio", [b"\1" * 200, AUDIO[:50], b""], ids=["other", "shorter", "empty"])
def test_audio_that_is_not_as_it_began_is_refused(audio: bytes) -> None:
    again: list[Event] = [AudioEvent(seq=0, audio=base64.b64encode(audio).decode(), duration_ms=1.0), END]
    with pytest.raises(TruncatedStream, match="ran the job again"):
        after(pieces([100])[:1]).rest_of(again)


def test_more_than_is_kept_cannot_be_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT_CHARACTERS", 150)
    heard = after(pieces([100]))
    with pytest.raises(TruncatedStream, match="20 ms cannot be compared"):
        heard.rest_of([*pieces([]), END])


def lasting(duration_ms: float) -> Event:
    return END.model_copy(update={"duration_ms": duration_ms})


@pytest.mark.parametrize(
    ("sequence", "end", "is_final", "expected"),
    [
        ([1, 2], None, False, True),
        ([], None, False, True),
        ([1], lasting(21), True, True),
        ([1], lasting(21), False, True),
        ([1], lasting(40), False, False),
        ([], lasting(40), False, False),
        ([1], None, True, False),
        ([], None, True, False),
        ([0], None, False, False),
        ([2], lasting(21), True, False),
        ([1, 1], lasting(22), False, False),
        ([], parse_event(ERROR), True, True),
    ],
)
def test_what_goes_on(sequence: list[int], end: Event | None, is_final: bool, expected: bool) -> None:
    events: list[Event] = [AudioEvent(seq=seq, audio="AAA=", duration_ms=1.0) for seq in sequence]
    heard = after(pieces([])[:1])
    assert heard.is_continued_by([*events, *([end] if end else [])], is_final=is_final) is expected
