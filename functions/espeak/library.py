"""libespeak-ng through ctypes. Imports nothing of the project: it runs in the small process of `speaker.py`.

Source of the API: espeak-ng 1.52.0, src/include/espeak-ng/speak_lib.h.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

SAMPLE_RATE = 22_050
EVENT_WORD, EVENT_END = 1, 5  # espeakEVENT_…
BUFFER_MS = 1_000  # audio per callback, made in about a millisecond
DEFAULT_PITCH, DEFAULT_RANGE, DEFAULT_VOLUME = 50, 50, 100

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when all is spoken
_DONT_EXIT = 0x8000  # without it a missing data file ends the process
_POS_CHARACTER = 1
_PLAIN_UTF8_TEXT = 0x0001  # espeakCHARS_UTF8 without espeakSSML (0x10) and espeakPHONEMES (0x100)
_END_PAUSE = 0x1000  # a sentence's pause at the end too, so that pieces of a text can be joined
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7  # espeak_PARAMETER


class LibraryMissing(Exception):
    """The wheel is not installed, or does not fit this machine. The message says what to do."""


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


class SpeechEvent(NamedTuple):
    """Something that happens in the speech: at `sample` of the call's audio, at character `text_start` (from 0)."""

    type: int
    sample: int
    text_start: int
    length: int


@dataclass(frozen=True, slots=True)
class VoiceEntry:
    """A voice as the library lists it; `identifier` is what `SpeechSettings` takes. `gender`: 1 male, 2 female."""

    name: str
    identifier: str
    gender: int


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """What a text is spoken with. `pitch` and `range` 0–99, `volume` in percent."""

    identifier: str
    rate_wpm: int
    pitch: int = DEFAULT_PITCH
    range: int = DEFAULT_RANGE
    volume: int = DEFAULT_VOLUME
    word_gap_ms: int = 0


AudioSink = Callable[[bytes, list[SpeechEvent]], bool]
"""Takes 16-bit PCM with the events that fall into it; answers whether to go on."""


class EspeakLibrary:
    """The library, initialised. Its state is global to the process, and speaking leaves traces in it.

    Raises `LibraryMissing`.
    """

    def __init__(self) -> None:
        try:
            loader = importlib.import_module("espeakng_loader")
            self.api: Any = ctypes.CDLL(loader.get_library_path())
            data = loader.get_data_path()
        except (ImportError, OSError, RuntimeError) as error:
            raise LibraryMissing(
                f"espeak needs the wheel espeakng-loader, which carries libespeak-ng ({error}); "
                "run `make install FUNCTION=espeak`"
            ) from error
        _declare(self.api)
        rate = self.api.espeak_Initialize(_SYNCHRONOUS, BUFFER_MS, data.encode(), _DONT_EXIT)
        if rate != SAMPLE_RATE:
            raise LibraryMissing(f"libespeak-ng answered {rate}, not {SAMPLE_RATE} Hz; install espeakng-loader anew")
        self.api.espeak_ng_SetRandSeed(1)  # the noise in breathy voices; espeak_Initialize seeds it with the time

    def voices(self) -> list[VoiceEntry]:
        """Every voice that the library lists, in its order; variants and MBROLA voices are not among them."""
        return list(_entries(self.api.espeak_ListVoices(None)))

    def speak(self, text: str, settings: SpeechSettings, sink: AudioSink) -> bool:
        """Speak `text`, handing PCM to `sink` until it answers False; False where there is no such voice.

        Raises whatever `sink` raises.
        """
        if self.api.espeak_SetVoiceByName(settings.identifier.encode()):
            return False
        for parameter, value in (
            (_RATE, settings.rate_wpm),
            (_VOLUME, settings.volume),
            (_PITCH, settings.pitch),
            (_RANGE, settings.range),
            (_WORD_GAP, round(settings.word_gap_ms / 10)),
        ):
            self.api.espeak_SetParameter(parameter, value, 0)
        failures: list[BaseException] = []
        callback = _Callback(_receiver(sink, failures))
        self.api.espeak_SetSynthCallback(callback)
        data = text.encode() + b"\0"
        self.api.espeak_Synth(data, len(data), 0, _POS_CHARACTER, 0, _PLAIN_UTF8_TEXT | _END_PAUSE, None, None)
        if failures:
            raise failures[0]
        return True


def _declare(api: Any) -> None:
    size, text, pointer = ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p
    number, count = ctypes.c_int, ctypes.c_uint
    api.espeak_Initialize.argtypes = (number, number, text, number)
    api.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    api.espeak_ng_SetRandSeed.argtypes = (ctypes.c_long,)
    api.espeak_Synth.argtypes = (text, size, count, number, count, count, pointer, pointer)


def _entries(listed: Any) -> Iterator[VoiceEntry]:
    index = 0
    while listed[index]:
        voice = listed[index].contents
        yield VoiceEntry(voice.name.decode().strip(), voice.identifier.decode(), voice.gender)
        index += 1


def _receiver(sink: AudioSink, failures: list[BaseException]) -> Callable[[Any, int, Any], int]:
    def receive(samples: int | None, count: int, events: Any) -> int:
        try:
            pcm = ctypes.string_at(samples, count * 2) if samples else b""
            return 0 if sink(pcm, list(_events(events))) else 1
        except BaseException as error:  # must not travel through C
            failures.append(error)
            return 1

    return receive


def _events(events: Any) -> Iterator[SpeechEvent]:
    index = 0
    while events[index].type:
        event = events[index]
        yield SpeechEvent(event.type, event.sample, event.text_position - 1, event.length)
        index += 1
