"""`python -m functions.espeak.list_voices > functions/espeak/voices.json`

Lists every voice of the library that makes sound. Some have no dictionary (Faroese) or no digits (Cherokee): they would
stay silent.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from yapit.contracts import PcmChunk
from yapit.errors import NoAudio

from .library import EspeakLibrary, SpeechSettings, VoiceEntry
from .process import SpeakerProcess
from .speech import Delivery, Speech
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
    """The content of `voices.json`. Speaks with each voice that the library lists, in about a second."""
    process = SpeakerProcess()
    try:
        return [_description(voice) for voice in EspeakLibrary().voices() if _speaks(voice, process)]
    finally:
        process.close()


def _description(voice: VoiceEntry) -> dict[str, Any]:
    slug = voice.identifier.rpartition("/")[2]
    return {
        "slug": slug,
        "name": voice.name,
        "language": _LANGUAGES.get(slug, slug),
        "gender": _GENDERS.get(voice.gender, "neutral"),
        "parameters": {"espeak_voice": voice.identifier},
    }


def _speaks(voice: VoiceEntry, process: SpeakerProcess) -> bool:
    def push(_: PcmChunk) -> bool:
        return True

    try:
        Delivery(Speech(_TRIAL_TEXT, SpeechSettings(voice.identifier, RATE_WPM)), push).run(process)
    except NoAudio:
        return False
    return True


if __name__ == "__main__":
    entries = ",\n".join("  " + json.dumps(voice, ensure_ascii=False) for voice in list_voices())
    sys.stdout.write(f"[\n{entries}\n]\n")
