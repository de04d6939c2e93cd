"""From the model's samples to the speech that is sent: its silences, its pace, its format."""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt

from .model import SAMPLE_RATE

Samples: TypeAlias = npt.NDArray[np.float32]

QUIET = 0.002  # of full scale: below it there is no speech (−54 dB)
LEAD_S, TRAIL_S = 0.06, 0.25
"""Silence kept around a sentence. The model makes about 0.3 s in front and 0.5 s behind: first sound comes late and
sentences stand too far apart. What is left makes a pause of 0.31 s between two."""
LEAD_SAMPLES, TRAIL_SAMPLES = int(LEAD_S * SAMPLE_RATE), int(TRAIL_S * SAMPLE_RATE)
FADE_S = 0.004
_MAX_TEMPO = 2.0


def trim(samples: Samples) -> tuple[Samples, int]:
    """The speech with its kept silence and faded ends, and how many samples were cut off in front."""
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    if not len(loud):
        return samples[:0], 0
    start = max(0, int(loud[0]) - LEAD_SAMPLES)
    end = int(loud[-1]) + TRAIL_SAMPLES
    speech = samples[start:end].copy()
    fade = np.linspace(0, 1, min(int(FADE_S * SAMPLE_RATE), len(speech) // 2), dtype=np.float32)
    speech[: len(fade)] *= fade
    speech[len(speech) - len(fade) :] *= fade[::-1]
    return speech, start


def change_pace(samples: Samples, factor: float) -> Samples:
    """The same speech `factor` times as fast (0.25 to 4), its pitch kept: FFmpeg's atempo filter."""
    while factor > _MAX_TEMPO:  # beyond, the filter skips samples
        samples, factor = _stretch(samples, _MAX_TEMPO), factor / _MAX_TEMPO
    return samples if factor == 1 else _stretch(samples, factor)


def _stretch(samples: Samples, factor: float) -> Samples:
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono", time_base=Fraction(1, SAMPLE_RATE))
    graph.link_nodes(source, graph.add("atempo", f"{factor:.6f}"), graph.add("abuffersink")).configure()
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    graph.push(frame)
    graph.push(None)
    parts: list[Samples] = []
    while True:
        try:
            parts.append(np.asarray(graph.pull().to_ndarray(), np.float32).reshape(-1))
        except (av.error.BlockingIOError, av.error.EOFError):
            return np.concatenate(parts) if parts else samples[:0]


def to_pcm(samples: Samples) -> bytes:
    """Signed 16-bit little-endian; what is too loud is clipped, not wrapped."""
    return (np.clip(samples, -1.0, 1.0) * 32_767).astype("<i2").tobytes()
