import asyncio
import base64
from contextlib import aclosing

import pytest

from tests import adapters
from tests.waiting import until
from yapit.contracts import MAX_EVENT_AUDIO_BYTES, AudioEvent, DoneEvent, ErrorEvent, Event
from yapit.function_spec import FunctionSpec
from yapit.workers.adapters.base import SynthAdapter
from yapit.workers.runner import Runner

JOB = {"text": "One two. Three four. Five six.", "voice": "any"}


def make_spec(**changes: object) -> FunctionSpec:
    base = {"name": "tone", "version": "7", "adapter": "a.B", "display_name": "T", "license": "x", "languages": ["en"]}
    return FunctionSpec.model_validate({**base, **changes})


SENTENCES = {"split": "sentence", "parallel_pieces": 2}


def make_runner(adapter: SynthAdapter, **changes: object) -> Runner:
    return Runner(adapter, make_spec(**changes))


async def events_of(runner: Runner, job: object) -> list[Event]:
    return [event async for event in runner.run(job)]


def pcm_of(events: list[Event]) -> bytes:
    return b"".join(base64.b64decode(event.audio) for event in events if isinstance(event, AudioEvent))


async def test_a_job_is_numbered_audio_then_one_done() -> None:
    events = await events_of(make_runner(adapters.Tone(), input=SENTENCES), JOB)
    *audio, done = events
    assert [event.seq for event in audio if isinstance(event, AudioEvent)] == list(range(len(audio)))
    assert isinstance(done, DoneEvent)
    pcm = b"".join(adapters.tone(text) for text in ("One two.", "Three four.", "Five six."))
    assert pcm_of(events) == pcm
    assert (done.function, done.version, done.characters) == ("tone", "7", len(JOB["text"]))
    assert done.duration_ms == len(pcm) / 2 / 24
    assert sum(event.duration_ms for event in audio if isinstance(event, AudioEvent)) == pytest.approx(done.duration_ms)


async def test_the_bare_adapter_and_the_runner_give_the_same_pcm() -> None:
    adapter = adapters.Tone()
    events = await events_of(make_runner(adapter), JOB)
    assert pcm_of(events) == await adapter.synthesize(JOB["text"], voice="any", speed=1.0)


@pytest.mark.parametrize(
    ("adapter", "code"),
    [
        (adapters.Raises, "adapter_failed"),
        (adapters.Refuses, "unsupported_text"),
        (adapters.OddBytes, "invalid_audio"),
        (adapters.WrongType, "invalid_audio"),
        (adapters.Nothing, "no_audio"),
        (adapters.FailsToStart, "worker_unavailable"),
        (adapters.WrongRate, "configuration_error"),
    ],
)
async def test_an_adapter_that_fails_ends_in_one_error_and_frees_its_place(
    adapter: type[SynthAdapter], code: str
) -> None:
    runner = make_runner(adapter(), scaling={"concurrency": 1})
    for _ in range(2):
        events = await events_of(runner, JOB)
        assert len(events) == 1
        assert isinstance(events[0], ErrorEvent)
        assert events[0].code == code
        assert "/root" not in events[0].message
    assert (runner.places.running, runner.places.waiting) == (0, 0)


async def test_an_adapter_that_fails_after_audio_ends_in_an_error_not_a_done() -> None:
    events = await events_of(make_runner(adapters.FailsAfterAudio()), JOB)
    assert [event.type for event in events] == ["audio", "error"]


async def test_an_adapter_that_hangs_is_given_up() -> None:
    runner = make_runner(adapters.Hangs(), timeouts={"job_s": 0.02})
    (event,) = await events_of(runner, JOB)
    assert isinstance(event, ErrorEvent)
    assert (event.code, event.retryable) == ("synthesis_timeout", True)
    assert runner.places.running == 0


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({}, "invalid_request"),
        ({**JOB, "speed": 9}, "invalid_request"),
        ({**JOB, "text": "..."}, "nothing_to_say"),
        ({**JOB, "text": "x" * 101}, "text_too_long"),
        ({**JOB, "voice": "nobody"}, "voice_not_found"),
        ({**JOB, "voice": "ann", "parameters": {"pitch": "high"}}, "invalid_request"),
        ({**JOB, "voice": "ann", "parameters": {"colour": 1}}, "invalid_request"),
    ],
)
async def test_a_bad_job_is_refused_before_the_adapter_starts(job: dict[str, object], code: str) -> None:
    adapter = adapters.Tone()
    voice = {"slug": "ann", "name": "Ann", "language": "en", "gender": "female"}
    schema = {"properties": {"pitch": {"type": "integer"}}}
    runner = make_runner(adapter, voices=[voice], parameters=schema, input={"max_characters": 100})
    (event,) = await events_of(runner, job)
    assert isinstance(event, ErrorEvent)
    assert event.code == code
    assert not hasattr(adapter, "initialized")


async def test_the_adapter_is_initialised_once_for_all_who_wait() -> None:
    adapter = adapters.Tone()
    runner = make_runner(adapter)
    results = await asyncio.gather(*(events_of(runner, JOB) for _ in range(5)))
    assert adapter.initialized == 1
    assert len({pcm_of(events) for events in results}) == 1


async def test_a_failed_start_is_tried_again_by_the_next_job() -> None:
    before = adapters.FailsToStart.attempts
    runner = make_runner(adapters.FailsToStart())
    await events_of(runner, JOB)
    await events_of(runner, JOB)
    assert adapters.FailsToStart.attempts == before + 2


async def test_pieces_are_spoken_in_parallel_and_heard_in_order() -> None:
    adapter = adapters.Gated()
    runner = make_runner(adapter, input=SENTENCES)
    async with aclosing(runner.run(JOB)) as events:
        first = await anext(events)
        await until(lambda: len(adapter.calls) == 2)  # the second sentence starts while the first still speaks
        assert adapter.calls == ["One two.", "Three four."]
        adapter.gate.set()
        rest = [event async for event in events]
    assert pcm_of([first, *rest]) == b"".join(adapters.tone(text) for text in ("One two.", "Three four.", "Five six."))


async def test_word_times_and_places_count_over_the_whole_text() -> None:
    adapter = adapters.Gated()
    adapter.gate.set()
    events = await events_of(make_runner(adapter, input=SENTENCES), JOB)
    words = [word for event in events if isinstance(event, AudioEvent) for word in event.words or ()]
    assert [word.word for word in words] == ["On", "Th", "Fi"]
    assert [JOB["text"][word.text_start : word.text_end] for word in words] == ["On", "Th", "Fi"]
    sentence_ms = [len(text) * 50 for text in ("One two.", "Three four.")]
    assert [word.start_ms for word in words] == [10.0, 10.0 + sentence_ms[0], 10.0 + sum(sentence_ms)]


@pytest.mark.parametrize("codec", ["pcm", "mp3", "flac", "opus", "aac"])
async def test_words_are_never_lost_in_an_encoder(codec: str) -> None:
    adapter = adapters.Gated()
    adapter.gate.set()
    events = await events_of(make_runner(adapter, input=SENTENCES), {**JOB, "codec": codec})
    assert sum(len(event.words or ()) for event in events if isinstance(event, AudioEvent)) == 3


async def test_whoever_leaves_stops_the_work() -> None:
    adapter = adapters.Gated()
    runner = make_runner(adapter, input=SENTENCES)
    events = runner.run(JOB)
    await anext(events)
    assert runner.places.running == 1
    await events.aclose()
    assert (runner.places.running, adapter.open_streams) == (0, 0)


async def test_over_its_queue_a_worker_refuses() -> None:
    adapter = adapters.Gated()
    runner = make_runner(adapter, scaling={"concurrency": 1, "max_queue": 1})
    first = runner.run(JOB)
    await anext(first)
    waiting = asyncio.create_task(events_of(runner, JOB))
    await until(lambda: runner.places.waiting)
    (refused,) = await events_of(runner, JOB)
    assert isinstance(refused, ErrorEvent)
    assert (refused.code, refused.retryable) == ("overloaded", True)
    adapter.gate.set()
    await first.aclose()
    done = (await waiting)[-1]
    assert isinstance(done, DoneEvent)
    assert done.timings.queue_ms > 0


async def test_large_audio_is_cut_into_events_that_every_provider_takes() -> None:
    events = await events_of(make_runner(adapters.Tone()), {"text": "x" * 400, "voice": "any"})
    sizes = [len(base64.b64decode(event.audio)) for event in events if isinstance(event, AudioEvent)]
    assert len(sizes) == 3
    assert max(sizes) <= MAX_EVENT_AUDIO_BYTES


async def test_the_first_event_says_where_the_time_went_so_far() -> None:
    events = await events_of(make_runner(adapters.Tone()), JOB)
    assert isinstance(events[0], AudioEvent)
    assert events[0].timings is not None
    assert events[0].timings.synthesis_ms > 0
