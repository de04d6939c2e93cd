"""libespeak-ng through ctypes: `EspeakLibrary` is one freshly loaded copy of it.

The library keeps the place in its flutter table, the state of its gain control, the phase of its voice, the rest of an
aborted call … in static variables that neither `espeak_Initialize` nor any other call resets: the same text sounds
slightly different every time. So every call loads the library anew and unloads it afterwards (0.7 ms). It is loaded
from a private copy of the file, because a library that somebody else in the process holds too would not be unloaded.

Source of the API: espeak-ng 1.52.0, src/include/espeak-ng/speak_lib.h.
"""

from __future__ import annotations

import ctypes
import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from yapit.errors import ConfigurationError, UnknownVoice

from .symbols import symbol_offsets

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
_FORGOTTEN = ("translator2", "translator3")  # what espeak_Terminate does not free
_HIDDEN = frozenset({"espeak_Synth", "DeleteTranslator", *_FORGOTTEN})


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


@dataclass(frozen=True, slots=True)
class VoiceEntry:
    """A voice as the library lists it; `identifier` is what `EspeakLibrary.speak` takes. `gender`: 1 male, 2 female."""

    name: str
    identifier: str
    gender: int


@dataclass(frozen=True, slots=True)
class SpeechEvent:
    """Something that happens in the speech: at `sample` of the call's audio, at character `text_start` (from 0)."""

    type: int
    sample: int
    text_start: int
    length: int


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
"""Takes PCM with the events that fall into it; answers whether to go on."""


@dataclass(frozen=True, slots=True)
class _Installation:
    library: Path
    data: Path
    offsets: dict[str, int]
    folder: tempfile.TemporaryDirectory[str]  # lives as long as the process


@lru_cache(maxsize=1)
def _installation() -> _Installation:
    try:
        loader = importlib.import_module("espeakng_loader")
        library, data = Path(loader.get_library_path()), Path(loader.get_data_path())
        folder = tempfile.TemporaryDirectory(prefix="espeak-", ignore_cleanup_errors=True)
        private = Path(folder.name) / library.name
        shutil.copyfile(library, private)
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"espeak needs the espeakng-loader wheel, which carries libespeak-ng and its data: {error}; "
            "run `make install FUNCTION=espeak`"
        ) from error
    return _Installation(private, data, symbol_offsets(private, _HIDDEN), folder)


class EspeakLibrary:
    """A fresh copy of the library, to be used as a context manager by one thread and one at a time.

    `__enter__` raises `ConfigurationError` where the wheel is missing or does not fit this machine.
    """

    def __enter__(self) -> Self:
        installation = _installation()
        self._offsets = installation.offsets
        try:
            self.api: Any = ctypes.CDLL(str(installation.library))
        except OSError as error:
            raise ConfigurationError(f"libespeak-ng does not load on this machine: {error}") from error
        _declare(self.api)
        rate = self.api.espeak_Initialize(_SYNCHRONOUS, BUFFER_MS, str(installation.data).encode(), _DONT_EXIT)
        if rate != SAMPLE_RATE:
            raise ConfigurationError(f"libespeak-ng answered {rate} instead of {SAMPLE_RATE} Hz; its data is damaged")
        self.api.espeak_ng_SetRandSeed(1)  # the noise in breathy voices; espeak_Initialize seeds it with the time
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.api.espeak_Terminate()
        self._free_forgotten()
        close = ctypes.CDLL(None).dlclose
        close.argtypes = (ctypes.c_void_p,)
        close(self.api._handle)
        del self.api

    def voices(self) -> list[VoiceEntry]:
        """Every voice that the library lists, in its order; variants and MBROLA voices are not among them."""
        return list(_entries(self.api.espeak_ListVoices(None)))

    def speak(self, text: str, settings: SpeechSettings, sink: AudioSink) -> None:
        """Speak `text`, handing 16-bit PCM to `sink` until it answers False.

        Raises `UnknownVoice`, and whatever `sink` raises.
        """
        if self.api.espeak_SetVoiceByName(settings.identifier.encode()):
            raise UnknownVoice(f"voice: libespeak-ng has no voice {settings.identifier!r}", param="voice")
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

    def _free_forgotten(self) -> None:
        """Free the dictionaries of the second languages of a text: about 100 KB per call, which else are lost.

        Where the library is stripped or no ELF file they stay lost.
        """
        if len(self._offsets) < len(_HIDDEN):
            return
        base = (ctypes.cast(self.api.espeak_Synth, ctypes.c_void_p).value or 0) - self._offsets["espeak_Synth"]
        delete = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(base + self._offsets["DeleteTranslator"])
        for name in _FORGOTTEN:
            delete(ctypes.c_void_p.from_address(base + self._offsets[name]).value)  # takes NULL too


def _declare(api: Any) -> None:
    size, text, pointer = ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p
    api.espeak_Initialize.argtypes = (ctypes.c_int, ctypes.c_int, text, ctypes.c_int)
    api.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    api.espeak_ng_SetRandSeed.argtypes = (ctypes.c_long,)
    api.espeak_Synth.argtypes = (
        text, size, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint, pointer, pointer
    )  # fmt: skip


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
