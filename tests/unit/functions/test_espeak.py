"""libespeak-ng itself, through its speaker process."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import functions.espeak
from functions.espeak.adapter import EspeakAdapter
from functions.espeak.engine import MAX_CHUNKS_AHEAD, Engine, engine
from functions.espeak.library import AudioSink, SpeechEvent, SpeechSettings
from functions.espeak.process import SpeakerProcess
from functions.espeak.stretch import split_speed
from yapit.contracts import DoneEvent, PcmChunk, WordTiming
from yapit.errors import AdapterFailed, ConfigurationError, NoAudio, UnknownVoice, UnsupportedText
from yapit.function_spec import FunctionSpec
from yapit.workers.loading import load_runner

FOLDER = Path(next(iter(functions.espeak.__path__)))
SPEC = FunctionSpec.load(FOLDER)
SENTENCE = "The quick brown fox jumps over the lazy dog."
LONG_TEXT = f"{SENTENCE} " * 60  # longer than what may be ahead of a listener
BYTES_PER_MS = 44.1

Speak = Callable[[SpeakerProcess, str, SpeechSettings, float, AudioSink], None]


@pytest.fixture
async def adapter() -> EspeakAdapter:
    adapter = EspeakAdapter()
    await adapter.initialize()
    return adapter


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that reach the library, in order."""
    texts: list[str] = []
    speak: Speak = SpeakerProcess.speak

    def recording(self: SpeakerProcess, text: str, settings: SpeechSettings, pace: float, sink: AudioSink) -> None:
        texts.append(text)
        speak(self, text, settings, pace, sink)

    monkeypatch.setattr(SpeakerProcess, "speak", recording)
    return texts


async def words_of(adapter: EspeakAdapter, text: str, voice: str, speed: float = 1.0) -> tuple[list[WordTiming], float]:
    """The words of a text and the milliseconds that it lasts."""
    words: list[WordTiming] = []
    size = 0
    async for chunk in adapter.stream(text, voice=voice, speed=speed):
        words += chunk.words
        size += len(chunk.pcm)
    return words, size / BYTES_PER_MS


async def pcm_of(adapter: EspeakAdapter, text: str = SENTENCE, voice: str = "en-US", **parameters: Any) -> bytes:
    return b"".join([chunk.pcm async for chunk in adapter.stream(text, voice=voice, speed=1.0, **parameters)])


def loudness(pcm: bytes) -> float:
    return float(np.sqrt(np.mean(np.frombuffer(pcm, "<i2").astype(float) ** 2)))


class TestVoices:
    def test_the_committed_file_is_what_the_library_speaks(self) -> None:
        listing = subprocess.run(
            [sys.executable, "-m", "functions.espeak.list_voices"],
            cwd=FOLDER.parents[1],
            capture_output=True,
            check=True,
        )
        assert json.loads(listing.stdout) == json.loads((FOLDER / "voices.json").read_text(encoding="utf-8"))
        assert len(SPEC.voices) > 100

    def test_languages_are_bcp_47_and_those_of_the_spec(self) -> None:
        languages = {voice.language for voice in SPEC.voices}
        pattern = r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?(-[a-z]{5,8})?(-x-[a-z]{2,8})?"
        assert [language for language in languages if not re.fullmatch(pattern, language)] == []
        assert languages == set(SPEC.languages)

    async def test_an_unknown_voice_is_an_error(self, adapter: EspeakAdapter) -> None:
        with pytest.raises(UnknownVoice, match="tlh-Latn"):
            await adapter.synthesize("Hello", voice="tlh-Latn", speed=1.0)

    async def test_a_path_is_no_voice(self, adapter: EspeakAdapter) -> None:
        with pytest.raises(UnknownVoice):
            await pcm_of(adapter, voice="../../../etc/passwd", espeak_voice="../../../etc/passwd")

    async def test_the_identifier_of_the_file_and_the_slug_are_one_voice(self, adapter: EspeakAdapter) -> None:
        assert await pcm_of(adapter, voice="x", espeak_voice="gmw/de") == await pcm_of(adapter, voice="de")


class TestDeterminism:
    async def test_nothing_that_was_spoken_before_is_heard(self, adapter: EspeakAdapter) -> None:
        first = await adapter.synthesize(SENTENCE, voice="en-US", speed=1.0)
        for voice, speed, parameters in (
            ("de", 0.25, {}),
            ("ru", 4.0, {"pitch": 99, "volume": 200}),
            ("cmn", 1.3, {"range": 0, "word_gap_ms": 300}),
        ):
            async for _ in adapter.stream(SENTENCE, voice=voice, speed=speed, **parameters):
                pass
            assert await adapter.synthesize(SENTENCE, voice="en-US", speed=1.0) == first

    async def test_nor_is_an_abandoned_call(self, adapter: EspeakAdapter) -> None:
        first = await adapter.synthesize(SENTENCE, voice="en-US", speed=1.0)
        async with aclosing(adapter.stream(LONG_TEXT, voice="en-US", speed=1.0)) as chunks:  # type: ignore[type-var]
            await anext(chunks)
        assert await adapter.synthesize(SENTENCE, voice="en-US", speed=1.0) == first

    async def test_another_process_makes_the_same_bytes(self, adapter: EspeakAdapter) -> None:
        script = (
            "import asyncio, hashlib; from functions.espeak.adapter import EspeakAdapter;"
            f"pcm = asyncio.run(EspeakAdapter().synthesize({SENTENCE!r}, voice='en-US', speed=0.4));"
            "print(hashlib.sha256(pcm).hexdigest())"
        )
        # memory that the library reads before it writes would differ
        environ = {**os.environ, "MALLOC_PERTURB_": "165"}
        command = [sys.executable, "-c", script]
        other = await asyncio.to_thread(
            subprocess.run, command, cwd=FOLDER.parents[1], env=environ, capture_output=True, text=True, check=True
        )
        pcm = await adapter.synthesize(SENTENCE, voice="en-US", speed=0.4)
        assert other.stdout.strip() == hashlib.sha256(pcm).hexdigest()


class TestPlainText:
    async def test_markup_and_phonemes_are_read_out(self, adapter: EspeakAdapter) -> None:
        marked = await pcm_of(adapter, '<prosody rate="x-slow">five</prosody>')
        assert len(marked) > 3 * len(await pcm_of(adapter, "five"))  # the tag itself is spoken
        words, _ = await words_of(adapter, "[[h@l'oU]] <b>x</b>", "en-US")
        assert words[0].word == "h"
        assert words[-1].text_start > len("[[h@l'oU]] <b>")

    async def test_embedded_commands_are_blanks(self, adapter: EspeakAdapter) -> None:
        assert await pcm_of(adapter, "one \x0140S two") == await pcm_of(adapter, "one  40S two")

    async def test_lone_surrogates_are_blanks(self, adapter: EspeakAdapter) -> None:
        assert await pcm_of(adapter, "one \ud800two") == await pcm_of(adapter, "one  two")

    async def test_no_sound_is_an_error(self, adapter: EspeakAdapter) -> None:
        with pytest.raises(NoAudio, match="…"):
            await adapter.synthesize("…", voice="en-US", speed=1.0)


class TestWords:
    @pytest.mark.parametrize(
        ("voice", "text", "expected"),
        [
            ("en-US", "It's well-known, e.g. in the U.S.A., isn't it?", "It's well-known e.g in U.S.A isn't it"),
            ("de", "Größe, Straße – „Äpfel“ naïve.", "Größe Straße Äpfel naïve"),
            ("ru", "Привет, мир! Ещё 🙂 раз.", "Привет мир Ещё раз"),
            ("hi", "नमस्ते दुनिया", "नमस्ते दुनिया"),
            ("cmn", "你好，世界。", "你好 世 界"),
            ("es", "𝒳 ¿qué tal?", "𝒳 qué tal"),
        ],
    )
    @pytest.mark.parametrize("speed", [0.25, 1.0, 3.0])
    async def test_they_stand_where_they_are_spoken(
        self, adapter: EspeakAdapter, voice: str, text: str, expected: str, speed: float
    ) -> None:
        words, duration_ms = await words_of(adapter, text, voice, speed)
        assert [word.word for word in words] == expected.split()
        for word, following in zip(words, [*words[1:], None], strict=True):
            assert text[word.text_start : word.text_end] == word.word
            assert word.start_ms < word.end_ms <= duration_ms + 1
            if following is not None:
                assert word.end_ms <= following.start_ms
                assert word.text_end <= following.text_start

    async def test_silence_lies_between_words_where_they_say(self, adapter: EspeakAdapter) -> None:
        text = "one two three"
        pcm = await pcm_of(adapter, text, word_gap_ms=500)
        chunks = [chunk async for chunk in adapter.stream(text, voice="en-US", speed=1.0, word_gap_ms=500)]
        words = [word for chunk in chunks for word in chunk.words]
        for word in words[:-1]:
            samples = np.frombuffer(pcm, "<i2")[: int(word.end_ms * 22.05)]
            assert not samples[-2205:].any()  # the last 100 ms before the next word
        assert len(words) == 3


class TestSpeed:
    @pytest.mark.parametrize("voice", ["en-US", "de", "ru"])
    async def test_duration_is_proportional(self, adapter: EspeakAdapter, voice: str) -> None:
        _, normal_ms = await words_of(adapter, SENTENCE, voice)
        for speed in (0.25, 0.5, 0.8, 1.4, 2.0, 4.0):
            _, duration_ms = await words_of(adapter, SENTENCE, voice, speed)
            assert duration_ms * speed == pytest.approx(normal_ms, rel=0.06), speed

    def test_what_espeak_cannot_speak_is_stretched(self) -> None:
        assert split_speed(1.0) == (175, 1.0)
        assert split_speed(0.25) == (90, pytest.approx(175 / 4 / 90))
        assert split_speed(4.0) == (250, pytest.approx(2.8))


class TestParameters:
    @pytest.mark.parametrize("name", ["pitch", "range"])
    async def test_the_voice_changes(self, adapter: EspeakAdapter, name: str) -> None:
        low, high = await pcm_of(adapter, **{name: 0}), await pcm_of(adapter, **{name: 99})
        assert low != high
        assert await pcm_of(adapter, **{name: 50}) == await pcm_of(adapter)

    async def test_volume(self, adapter: EspeakAdapter) -> None:
        quiet, normal = await pcm_of(adapter, volume=10), await pcm_of(adapter)
        assert loudness(quiet) == pytest.approx(loudness(normal) / 10, rel=0.3)

    async def test_word_gap(self, adapter: EspeakAdapter) -> None:
        gap_ms = (len(await pcm_of(adapter, word_gap_ms=200)) - len(await pcm_of(adapter))) / BYTES_PER_MS
        assert gap_ms > 8 * 200 * 0.8  # eight gaps between nine words

    def test_the_schema_offers_these(self) -> None:
        assert set(SPEC.parameters["properties"]) == {"pitch", "range", "volume", "word_gap_ms"}


class TestEngine:
    async def test_closing_a_stream_frees_the_engine(self, adapter: EspeakAdapter) -> None:
        for _ in range(5):
            async with aclosing(adapter.stream(LONG_TEXT, voice="en-US", speed=0.25)) as chunks:  # type: ignore[type-var]
                assert len((await anext(chunks)).pcm) > 0
        assert await pcm_of(adapter)

    async def test_a_listener_that_waits_bounds_what_is_made(
        self, adapter: EspeakAdapter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made, speak = 0, SpeakerProcess.speak
        is_full = threading.Event()

        def counting(self: SpeakerProcess, text: str, settings: SpeechSettings, pace: float, sink: AudioSink) -> None:
            def counted(pcm: bytes, events: list[SpeechEvent]) -> bool:
                nonlocal made
                made += 1
                if made == MAX_CHUNKS_AHEAD + 2:
                    is_full.set()
                return sink(pcm, events)

            speak(self, text, settings, pace, counted)

        chunks_in_all = len([chunk async for chunk in adapter.stream(LONG_TEXT, voice="en-US", speed=1.0)])
        assert chunks_in_all > 2 * MAX_CHUNKS_AHEAD
        monkeypatch.setattr(SpeakerProcess, "speak", counting)
        async with aclosing(adapter.stream(LONG_TEXT, voice="en-US", speed=1.0)) as chunks:  # type: ignore[type-var]
            await anext(chunks)
            assert await asyncio.to_thread(is_full.wait, 30)
        monkeypatch.undo()
        assert await pcm_of(adapter)  # in turn: the first call has ended
        assert made == MAX_CHUNKS_AHEAD + 2  # the one taken, those ahead, and the one that met the bound

    async def test_calls_are_served_in_order_and_cancelled_ones_never_start(
        self, adapter: EspeakAdapter, spoken: list[str]
    ) -> None:
        holder = adapter.stream(LONG_TEXT, voice="en-US", speed=1.0)
        await anext(aiter(holder))  # the engine now waits for its listener
        finished: list[str] = []

        async def say(text: str) -> None:
            await adapter.synthesize(text, voice="en-US", speed=1.0)
            finished.append(text)

        tasks = [asyncio.create_task(say(text)) for text in ("one", "two", "three", "four")]
        await asyncio.sleep(0)  # all are in the queue
        tasks[1].cancel()
        assert (await asyncio.gather(*tasks[1:2], return_exceptions=True))[0].__class__ is asyncio.CancelledError
        assert spoken == [LONG_TEXT]
        await holder.aclose()  # type: ignore[attr-defined]
        await asyncio.gather(tasks[0], *tasks[2:])
        assert finished == ["one", "three", "four"]
        assert spoken == [LONG_TEXT, "one", "three", "four"]

    async def test_adapters_in_several_loops_share_it(self, adapter: EspeakAdapter) -> None:
        async def speak_all(adapter: EspeakAdapter) -> list[bytes]:
            return await asyncio.gather(*(pcm_of(adapter, voice=voice) for voice in ("en-US", "de", "fr", "es") * 3))

        expected = [await pcm_of(adapter, voice=voice) for voice in ("en-US", "de", "fr", "es")] * 3
        other = asyncio.to_thread(lambda: asyncio.run(speak_all(EspeakAdapter())))
        assert await asyncio.gather(other, speak_all(adapter)) == [expected, expected]

    async def test_audio_comes_before_the_speech_is_whole(self, adapter: EspeakAdapter) -> None:
        stream = adapter.stream(LONG_TEXT, voice="en-US", speed=1.0)
        first = await anext(aiter(stream))
        assert isinstance(first, PcmChunk)
        assert 0 < len(first.pcm) <= 44_102
        await stream.aclose()  # type: ignore[attr-defined]


class TestSpeaker:
    async def test_a_text_that_crashes_the_library_ends_only_its_call(self, adapter: EspeakAdapter) -> None:
        before = await pcm_of(adapter)
        with pytest.raises(UnsupportedText, match="ⓜ"):
            await adapter.synthesize("ⓜ", voice="ne", speed=1.0)
        assert await pcm_of(adapter) == before

    async def test_a_speaker_that_is_gone_is_replaced(self, adapter: EspeakAdapter) -> None:
        before = await pcm_of(adapter)
        speaker = engine()._speaker
        assert speaker is not None
        speaker._process.kill()
        speaker._process.wait()
        assert await pcm_of(adapter) == before

    async def test_a_speaker_that_dies_in_a_call_fails_it(self, adapter: EspeakAdapter) -> None:
        stream = adapter.stream(LONG_TEXT, voice="en-US", speed=1.0)
        chunks = aiter(stream)
        await anext(chunks)
        speaker = engine()._speaker
        assert speaker is not None
        speaker._connection.shutdown(2)
        with pytest.raises(AdapterFailed, match="next call"):
            async for _ in chunks:
                pass
        assert await pcm_of(adapter)

    async def test_a_missing_wheel_is_one_clear_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "espeakng_loader.py").write_text("raise ImportError('no such wheel')")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(ConfigurationError, match=r"espeakng-loader.*no such wheel.*make install FUNCTION=espeak"):
            await Engine().start()


@pytest.mark.parametrize("example", SPEC.examples, ids=lambda example: example.voice)
async def test_examples_through_the_runner(example: Any) -> None:
    runner = load_runner(SPEC.adapter_class)
    job = {"text": example.text, "voice": example.voice, "speed": example.speed, "parameters": example.parameters}
    *audio, done = [event async for event in runner.run(job)]
    assert isinstance(done, DoneEvent)
    assert example.min_duration_ms <= done.duration_ms <= example.max_duration_ms
    assert [word for event in audio for word in getattr(event, "words", None) or ()]
    await runner.close()
