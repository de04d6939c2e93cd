"""The network: phonemes in, samples and durations out. Thread-safe; one call uses one thread."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import hibari.tts
import numpy as np
import numpy.typing as npt
import onnxruntime
from hibari import dsp
from hibari.voices import voice_path

SAMPLE_RATE = 24_000
FRAME_SAMPLES = 600  # of a unit of duration: two frames of the vocoder
SEED = 0  # of the noise in fricatives and breath: the same for every call, so that a text always sounds the same
_DURATIONS = "/Clip_output_0"  # the node of hibari-tts 0.2.1 that holds the frames of each phoneme
_PAD = 0


@dataclass(frozen=True, slots=True)
class Spoken:
    """`samples`: float32, about −1 to 1. `starts`: for each phoneme the sample where it starts, then where all end."""

    samples: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]


class Model:
    """Loads the weights that come in the hibari-tts wheel."""

    def __init__(self, voice: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        graph = Path(voice_path(voice)).read_bytes() + _graph_output(_DURATIONS)
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        vocabulary = Path(hibari.tts.ASSETS) / "vocab.json"
        self._ids: dict[str, int] = json.loads(vocabulary.read_text(encoding="utf-8"))

    def knows(self, phoneme: str) -> bool:
        return phoneme in self._ids

    def speak(self, phonemes: str, speed: float) -> Spoken:
        """Samples for a string of phonemes that the model `knows`; durations are divided by `speed` (0.25 to 2)."""
        ids = np.asarray([[_PAD, *(self._ids[phoneme] for phoneme in phonemes), _PAD]], np.int64)
        *spectrum, durations = self._session.run(None, {"ids": ids, "speed": np.asarray([speed], np.float32)})
        samples = dsp.synth(*(part[0] for part in spectrum), np.random.default_rng(SEED))
        ends = np.cumsum(durations.reshape(-1)).astype(np.int64) * FRAME_SAMPLES
        return Spoken(samples, ends[:-1])


def _graph_output(name: str) -> bytes:
    """What makes an inner tensor an output when appended to a serialised ONNX model.

    Two protobuf messages written one after the other are one message: its repeated fields are joined. Field numbers
    (onnx.proto): ModelProto.graph 7, GraphProto.output 12, ValueInfoProto.name 1.
    """
    return _field(7, _field(12, _field(1, name.encode())))


def _field(number: int, content: bytes) -> bytes:
    if len(content) > 127:
        raise ValueError("a length of several bytes is not needed here")
    return bytes([number << 3 | 2, len(content)]) + content
