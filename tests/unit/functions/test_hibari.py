from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from functions.hibari.adapter import MAX_PIECE_CHARACTERS, HibariAdapter
from functions.hibari.speech import MAX_RUN_PHONEMES
from functions.hibari.written import words_of
from yapit.contracts import PcmChunk
from yapit.errors import NoAudio, UnknownVoice, UnsupportedText
from yapit.function_spec import FunctionSpec

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen."


@pytest.fixture(scope="module")
def adapter() -> Iterator[HibariAdapter]:
    adapter = HibariAdapter()
    asyncio.run(adapter.initialize())
    yield adapter
    asyncio.run(adapter.close())


async def spoken(adapter: HibariAdapter, text: str, speed: float = 1.0) -> PcmChunk:
    chunks = [chunk async for chunk in adapter.stream(text, voice="heart", speed=speed)]
    assert len(chunks) == 1
    assert isinstance(chunks[0], PcmChunk)
    return chunks[0]


async def test_the_same_text_is_the_same_audio_whatever_runs_beside_it(adapter: HibariAdapter) -> None:
    alone = await adapter.synthesize(TEXT, voice="heart", speed=1.0)
    others = [f"Sentence number {n} stands beside it." for n in range(10)]
    together = await asyncio.gather(*(spoken(adapter, text) for text in [TEXT, *others] * 3))
    assert {chunk.pcm for chunk in together[:: len(others) + 1]} == {alone}
    assert len({chunk.pcm for chunk in together}) == len(others) + 1


async def test_another_instance_makes_the_same_bytes(adapter: HibariAdapter) -> None:
    other = HibariAdapter()
    await other.initialize()
    assert (await spoken(other, TEXT)).pcm == (await spoken(adapter, TEXT)).pcm
    await other.close()


async def test_sentences_are_joined_as_the_runner_joins_them(adapter: HibariAdapter) -> None:
    whole = await adapter.synthesize(f"{TEXT} Hello there.", voice="heart", speed=1.0)
    assert whole == (await spoken(adapter, TEXT)).pcm + (await spoken(adapter, "Hello there.")).pcm


async def test_it_starts_and_ends_without_a_click_and_with_little_silence(adapter: HibariAdapter) -> None:
    samples = np.frombuffer((await spoken(adapter, TEXT)).pcm, "<i2").astype(int)
    assert abs(samples[0]) < 20
    assert abs(samples[-1]) < 20
    loud = np.flatnonzero(np.abs(samples) > 300)
    assert loud[0] / 24_000 < 0.15
    assert 0.1 < (len(samples) - loud[-1]) / 24_000 < 0.4


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.75, 1.1, 1.5, 2.0, 3.0, 4.0])
async def test_speed_is_a_factor(adapter: HibariAdapter, speed: float) -> None:
    normal, other = await spoken(adapter, TEXT), await spoken(adapter, TEXT, speed)
    assert len(other.pcm) * speed / len(normal.pcm) == pytest.approx(1.0, rel=0.08)
    assert [word.word for word in other.words] == [word.word for word in normal.words]
    assert other.words[-1].end_ms <= len(other.pcm) / 48


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "Dr. Smith paid $3.50 on 3/4/2024 at 10:30 a.m. to “St. John”, etc.",
        "It’s “fine” — really… isn't it?",
        "Mail me@example.org, or see https://example.org/a?b=c.",
        "1,250 people & 50% of 3.14159 café naïve",
        "[hello](/x/) there",
    ],
)
async def test_every_written_word_is_found_in_the_audio_in_order(adapter: HibariAdapter, text: str) -> None:
    chunk = await spoken(adapter, text)
    assert [text[word.text_start : word.text_end] for word in chunk.words] == [word.word for word in chunk.words]
    written = [word for word in text.split() if any(character.isalnum() for character in word)]
    assert len(chunk.words) == len(written)
    assert all(word.word in original for word, original in zip(chunk.words, written, strict=True))
    assert all(before.end_ms <= after.start_ms + 0.2 for before, after in pairwise(chunk.words))
    assert all(word.start_ms <= word.end_ms <= len(chunk.pcm) / 48 for word in chunk.words)
    assert chunk.words[-1].end_ms > 0.7 * (len(chunk.pcm) / 48 - 300)


@pytest.mark.parametrize("text", ["你好", "Привет, мир", "Hello, мир", "שלום", "Καλημέρα", "a あ b"])
async def test_letters_it_cannot_speak_are_refused_not_dropped(adapter: HibariAdapter, text: str) -> None:
    with pytest.raises(UnsupportedText, match="no Latin letter"):
        await adapter.synthesize(text, voice="heart", speed=1.0)


@pytest.mark.parametrize("text", ["Łódź, Đặng, Škoda and Ångström", "ok 👍 fine", "naïve façade", "A", "7", "ª and µ"])
async def test_latin_letters_of_any_kind_are_spoken(adapter: HibariAdapter, text: str) -> None:
    assert len(await adapter.synthesize(text, voice="heart", speed=1.0)) > 10_000


@pytest.mark.parametrize("text", ["...", "™", "\N{SOFT HYPHEN}", "- 🙂"])
async def test_nothing_to_say_is_no_success(adapter: HibariAdapter, text: str) -> None:
    with pytest.raises(NoAudio):
        await spoken(adapter, text)
    with pytest.raises(NoAudio):
        await adapter.synthesize(text, voice="heart", speed=1.0)


async def test_an_unknown_voice_is_refused(adapter: HibariAdapter) -> None:
    with pytest.raises(UnknownVoice, match="it has heart"):
        await adapter.synthesize("Hello.", voice="../x", speed=1.0)


def test_the_spec_cuts_where_the_adapter_cuts() -> None:
    spec = FunctionSpec.load(Path("functions/hibari"))
    assert spec.input.max_piece_characters == MAX_PIECE_CHARACTERS
    assert (spec.input.split, spec.sample_rate) == ("sentence", HibariAdapter.sample_rate)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("cafe\N{COMBINING ACUTE ACCENT}", "café"),
        ("ＨＥＬＬＯ 𝐇𝐞𝐥𝐥𝐨 ⓗello", "HELLO Hello hello"),
        ("co\N{SOFT HYPHEN}operate", "cooperate"),
        ("007", "0 0 7"),
        ("1,2,3", "1, 2, 3"),
        ("5㎏", "5 kg"),
        ("⅓ cup", "1/3 cup"),
        ("4111111111111111", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ],
)
def test_letters_and_digits_in_disguise_are_not_lost(adapter: HibariAdapter, text: str, same: str) -> None:
    phonemize = adapter._speaker.phonemize
    assert phonemize(text).symbols == phonemize(same).symbols


@pytest.mark.parametrize("text", ["1,000,000", "12/25/2024", "9:30", "3.14", "1,00,000"])
def test_numbers_with_a_reading_keep_it(text: str) -> None:
    assert [word.reading for word in words_of(text)] == [text]


def test_the_end_of_a_long_unknown_word_is_spoken(adapter: HibariAdapter) -> None:
    half, whole = (adapter._speaker.phonemize(word).symbols for word in ("zqblorvantikumsel", "zqblorvantikumsel" * 2))
    assert len(whole) > 1.7 * len(half)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Pay USD 500 or Rs 20 now", ["Pay", "USD 500", "or", "Rs 20", "now"]),
        ("at 10:30 a.m. (50%) of $3.2 billion", ["at", "10:30", "a.m", "50%", "of", "$3.2", "billion"]),
        ("№ 5 • one | two", ["№", "5", "one", "two"]),
    ],
)
async def test_what_was_written_is_timed_however_it_is_read(
    adapter: HibariAdapter, text: str, words: list[str]
) -> None:
    timed = (await spoken(adapter, text)).words
    assert [word.word for word in timed] == words
    assert all(word.end_ms - word.start_ms > 60 for word in timed)


@pytest.mark.parametrize("speed", [0.4, 1.0, 2.5])
async def test_words_are_where_the_sound_is(adapter: HibariAdapter, speed: float) -> None:
    chunk = await spoken(adapter, "Stop, then wait; after a while, go on.", speed)
    power = np.frombuffer(chunk.pcm, "<i2").astype(float) ** 2

    def heard(shift_ms: float) -> float:
        spans = [(int((w.start_ms + shift_ms) * 24), int((w.end_ms + shift_ms) * 24)) for w in chunk.words]
        return float(sum(power[max(0, start) : max(0, end)].sum() for start, end in spans) / power.sum())

    assert heard(0) > 0.98
    assert heard(0) > 1.05 * heard(200 / speed)
    assert heard(0) > 1.03 * heard(-200 / speed)


async def test_text_without_punctuation_is_cut_into_bounded_pieces(
    adapter: HibariAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 0
    model = adapter._speaker.model
    speak = model.speak

    def watched(symbols: str, speed: float) -> object:
        nonlocal longest
        longest = max(longest, len(symbols))
        return speak(symbols, speed)

    monkeypatch.setattr(model, "speak", watched)
    pcm = await adapter.synthesize("word after word " * 60, voice="heart", speed=2.0)
    assert len(pcm) / 48_000 > 20
    assert longest <= MAX_RUN_PHONEMES
    longest = 0
    digits = await spoken(adapter, "7" * MAX_PIECE_CHARACTERS)
    assert MAX_RUN_PHONEMES - 20 < longest <= MAX_RUN_PHONEMES
    assert [word.word for word in digits.words] == ["7" * MAX_PIECE_CHARACTERS]
    assert digits.words[0].end_ms - digits.words[0].start_ms > MAX_PIECE_CHARACTERS * 200


async def test_a_call_that_was_cancelled_while_it_waited_never_starts(
    adapter: HibariAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken_texts: list[str] = []
    phonemize = adapter._speaker.phonemize

    def watched(text: str) -> object:
        spoken_texts.append(text)
        return phonemize(text)

    monkeypatch.setattr(adapter._speaker, "phonemize", watched)
    busy = [asyncio.create_task(spoken(adapter, TEXT * 3)) for _ in range(8)]
    await asyncio.sleep(0)
    late = asyncio.create_task(spoken(adapter, "Never said."))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.gather(*busy)
    assert "Never said." not in spoken_texts
    assert len(spoken_texts) == 8


async def test_closing_drops_the_calls_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = HibariAdapter()
    await adapter.close()  # before `initialize`: nothing to release
    await adapter.initialize()
    calls = [asyncio.create_task(spoken(adapter, TEXT * 3)) for _ in range(30)]
    await asyncio.sleep(0)
    await adapter.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(result, asyncio.CancelledError) for result in results)
    with pytest.raises(RuntimeError, match="shutdown"):
        await spoken(adapter, TEXT)
