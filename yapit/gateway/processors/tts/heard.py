"""What has been passed on of a job's audio, so that it goes on without a gap or a repetition from another source.

A provider may run a job again, whose pieces then begin anew and may be cut elsewhere: pieces of two runs never mix.
"""

from __future__ import annotations

import base64

from yapit.contracts import AudioEvent, ErrorEvent, Event
from yapit.errors import TruncatedStream
from yapit.gateway.processors.tts.base import MAX_MISSING_MS

MAX_KEPT_CHARACTERS = 16_000_000
"""Audio kept per job, in base64, to compare with. RunPod holds no whole output above 10 MB to go on from (docs)."""


class Heard:
    """Keeps the pieces as they came: in nearly every job nobody asks for them again."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._next_seq = self._characters = 0
        self._duration_ms, self._last_word_ms = 0.0, -1.0

    def add(self, event: AudioEvent) -> None:
        self._next_seq += 1
        self._characters += len(event.audio)
        self._duration_ms += event.duration_ms
        if event.words:
            self._last_word_ms = event.words[-1].start_ms
        if self._characters <= MAX_KEPT_CHARACTERS:
            self._pieces.append(event.audio)
        else:
            self._pieces.clear()

    def is_continued_by(self, events: list[Event], *, is_final: bool) -> bool:
        """Whether these are the next pieces; and if they are the last, whether the end is among them."""
        pieces = [event for event in events if isinstance(event, AudioEvent)]
        end = next((event for event in events if not isinstance(event, AudioEvent)), None)
        if isinstance(end, ErrorEvent):
            return True  # it tells of no audio that is missing
        if [piece.seq for piece in pieces] != list(range(self._next_seq, self._next_seq + len(pieces))):
            return False
        duration_ms = self._duration_ms + sum(piece.duration_ms for piece in pieces)
        return not is_final if end is None else abs(duration_ms - end.duration_ms) <= MAX_MISSING_MS

    def rest_of(self, output: list[Event]) -> list[Event]:
        """What has not been heard of a whole job.

        Raises `TruncatedStream` if what was heard is not its beginning, as with a model that never speaks twice alike,
        or too long to be compared.
        """
        heard = memoryview(b"".join(map(base64.b64decode, self._pieces)))
        duration_ms, rest = 0.0, list[Event]()
        for event in output:
            if not isinstance(event, AudioEvent):
                rest.append(event)
                continue
            duration_ms += event.duration_ms
            audio = event.decoded()
            known, heard = heard[: len(audio)], heard[len(audio) :]
            if known != audio[: len(known)]:
                raise TruncatedStream("the provider ran the job again, and it does not sound as it began")
            if len(known) < len(audio) or (not audio and (rest or self._has_new_words(event))):
                rest.append(self._from(event, audio[len(known) :], self._next_seq + len(rest), duration_ms))
        if heard or (self._characters and not self._pieces):
            raise TruncatedStream(f"the provider ran the job again, and {self._duration_ms:.0f} ms cannot be compared")
        return rest

    def _has_new_words(self, event: AudioEvent) -> bool:
        return any(word.start_ms > self._last_word_ms for word in event.words or ())

    def _from(self, event: AudioEvent, audio: bytes, seq: int, end_ms: float) -> AudioEvent:
        """The rest of an event, whose audio ends at `end_ms` of the job's."""
        changes = {
            "seq": seq,
            "audio": base64.b64encode(audio).decode("ascii"),
            "duration_ms": round(min(event.duration_ms, max(0.0, end_ms - self._duration_ms)), 3),
            "words": tuple(word for word in event.words or () if word.start_ms > self._last_word_ms) or None,
        }
        return event.model_copy(update=changes)
