"""Speed beyond what espeak itself speaks well: time stretching with Sonic, which the same library carries.

Below 80 words per minute espeak's own rate has no effect, and above 250 its speech gets shorter than asked for.
"""

from __future__ import annotations

import ctypes
from typing import Any

from .library import SAMPLE_RATE

RATE_WPM = 175  # espeak's own pace
MIN_RATE_WPM, MAX_RATE_WPM = 90, 250
_BLOCK_SAMPLES = 8_192


def split_speed(speed: float) -> tuple[int, float]:
    """The rate in words per minute to speak at, and the factor by which the speech is then sped up."""
    wanted_wpm = RATE_WPM * speed
    rate_wpm = round(min(max(wanted_wpm, MIN_RATE_WPM), MAX_RATE_WPM))
    is_within = MIN_RATE_WPM <= wanted_wpm <= MAX_RATE_WPM
    return rate_wpm, 1.0 if is_within else wanted_wpm / rate_wpm


class Stretcher:
    """16-bit mono PCM in, the same speech at `factor` times the pace out; its pitch stays. For one call."""

    def __init__(self, api: Any, factor: float) -> None:
        self._api, self._factor = api, factor
        self._samples_in = self._samples_out = 0
        api.sonicCreateStream.restype = ctypes.c_void_p
        api.sonicFlushStream.argtypes = (ctypes.c_void_p,)
        api.sonicSetSpeed.argtypes = (ctypes.c_void_p, ctypes.c_float)
        api.sonicWriteShortToStream.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
        api.sonicReadShortFromStream.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
        self._stream = None if factor == 1.0 else api.sonicCreateStream(SAMPLE_RATE, 1)
        if self._stream:
            api.sonicSetSpeed(self._stream, factor)

    def stretch(self, pcm: bytes) -> bytes:
        if not self._stream:
            return pcm
        self._samples_in += len(pcm) // 2
        self._api.sonicWriteShortToStream(self._stream, pcm, len(pcm) // 2)
        return self._read()

    def flush(self) -> bytes:
        if not self._stream:
            return b""
        self._api.sonicFlushStream(self._stream)
        rest = self._read()
        # Sonic ends up to 20 ms early: silence makes it what the words' times say
        missing = round(self._samples_in / self._factor) - self._samples_out
        return rest + bytes(2 * max(missing, 0))

    def _read(self) -> bytes:
        block = ctypes.create_string_buffer(2 * _BLOCK_SAMPLES)
        parts = []
        while count := self._api.sonicReadShortFromStream(self._stream, block, _BLOCK_SAMPLES):
            self._samples_out += count
            parts.append(block.raw[: 2 * count])
        return b"".join(parts)
