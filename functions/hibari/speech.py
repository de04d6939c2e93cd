"""One piece of text to speech with word times: what a worker thread does."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from yapit.contracts import PcmChunk, WordTiming
from yapit.errors import NoAudio

from . import shape
from .model import SAMPLE_RATE, Model
from .phonemes import Phonemizer

MIN_MODEL_SPEED, MAX_MODEL_SPEED = 0.5, 1.0
"""What lies beyond is time stretching. The model itself speaks unclearly when fast (word error rate of whisper tiny.en
on 16 sentences: 18 % at 1.5 and 31 % at 2, against 5 % and 19 % stretched from 1), and below its trained range (9 % at
0.25 against 4 % stretched from 0.5)."""
MAX_RUN_PHONEMES = 300
"""Per run of the model: what bounds its memory. Prose has about one per character, digits up to ten."""


class Speaker:
    """Loads the model and its G2P. Thread-safe."""

    def __init__(self, voice: str) -> None:
        self.model = Model(voice)
        self.phonemize = Phonemizer(self.model.knows)

    def speak(self, text: str, speed: float) -> PcmChunk:
        """Raises `UnsupportedText` or `NoAudio`."""
        phonemes = self.phonemize(text)
        if not phonemes.words:
            raise NoAudio(f"hibari finds no word in {text[:60]!r}")
        model_speed = min(max(speed, MIN_MODEL_SPEED), MAX_MODEL_SPEED)
        pace = speed / model_speed
        runs = list(_runs(phonemes.symbols))
        samples, times = self._run(runs, model_speed)
        if not len(samples):
            raise NoAudio(f"hibari made only silence for {text[:60]!r}")
        firsts = [first for first, _ in runs]

        def at_ms(phoneme: int, *, end: bool) -> float:
            run = bisect_right(firsts, phoneme) - 1
            sample = times[run][phoneme - firsts[run] + end]
            return round(float(sample) * 1000 / SAMPLE_RATE / pace, 1)

        words = tuple(
            WordTiming(
                word=text[word.text_start : word.text_end],
                start_ms=at_ms(word.first, end=False),
                end_ms=at_ms(word.last - 1, end=True),
                text_start=word.text_start,
                text_end=word.text_end,
            )
            for word in phonemes.words
        )
        return PcmChunk(shape.to_pcm(shape.change_pace(samples, pace)), words)

    def _run(self, runs: list[tuple[int, str]], speed: float) -> tuple[shape.Samples, list[npt.NDArray[np.int64]]]:
        """The samples of all runs, joined, and for each run the samples where its phonemes start, and where it ends."""
        parts: list[shape.Samples] = []
        times: list[npt.NDArray[np.int64]] = []
        length = 0
        for _, symbols in runs:
            spoken = self.model.speak(symbols, speed)
            samples, cut = shape.trim(spoken.samples)
            speech_end = max(0, len(samples) - shape.TRAIL_SAMPLES)
            starts = np.clip(spoken.starts - cut, 0, speech_end)
            starts[0] = min(starts[0], shape.LEAD_SAMPLES)  # where sound begins, some of it in the pad's time
            times.append(starts + length)
            parts.append(samples)
            length += len(samples)
        return np.concatenate(parts), times


def _runs(symbols: str) -> Iterator[tuple[int, str]]:
    """`symbols` in parts of at most `MAX_RUN_PHONEMES`, cut after a blank where there is one, each with its start."""
    start = 0
    while len(symbols) - start > MAX_RUN_PHONEMES:
        limit = start + MAX_RUN_PHONEMES
        cut = symbols.rfind(" ", start, limit) + 1 or limit
        yield start, symbols[start:cut]
        start = cut
    yield start, symbols[start:]
