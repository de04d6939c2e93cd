"""The voices that libespeak-ng can speak, as this function names them."""

from __future__ import annotations

from typing import Any

from yapit.errors import NoAudio

from .library import EspeakLibrary, SpeechSettings, VoiceEntry
from .speech import Speech, speak
from .stretch import RATE_WPM

_TRIAL_TEXT = "1 2 3"
_GENDERS = {1: "male", 2: "female"}
# where espeak's own tag is no BCP 47, or means another place (BA is Bosnia), or is less than it knows
_LANGUAGES = {
    "ca-ba": "ca-x-balear",
    "ca-nw": "ca-x-nwest",
    "ca-va": "ca-valencia",
    "en": "en-GB",
    "en-US-nyc": "en-US-x-nyc",
    "piqd": "tlh",
    "py": "art-x-pyash",
    "ru-cl": "ru-x-classic",
}


def list_voices() -> list[dict[str, Any]]:
    """Every voice that makes sound, as `voices.json` has it. Blocking: speaks with each of them.

    Some that the library lists have no dictionary (Faroese) or do not know digits (Cherokee): they stay silent.
    """
    return [_description(voice) for voice in _listed() if _speaks(voice)]


def identifiers() -> dict[str, str]:
    """What the library calls each voice, by slug. Blocking."""
    return {_slug(voice): voice.identifier for voice in _listed()}


def _listed() -> list[VoiceEntry]:
    with EspeakLibrary() as library:
        return library.voices()


def _slug(voice: VoiceEntry) -> str:
    return voice.identifier.rpartition("/")[2]


def _description(voice: VoiceEntry) -> dict[str, Any]:
    slug = _slug(voice)
    return {
        "slug": slug,
        "name": voice.name,
        "language": _LANGUAGES.get(slug, slug),
        "gender": _GENDERS.get(voice.gender, "neutral"),
        "parameters": {"espeak_voice": voice.identifier},
    }


def _speaks(voice: VoiceEntry) -> bool:
    try:
        speak(Speech(_TRIAL_TEXT, SpeechSettings(voice.identifier, RATE_WPM)), lambda _: True)
    except NoAudio:
        return False
    return True
