"""The adapter's end of the speaker process. Blocking; belongs to the engine's thread."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict

from yapit.errors import AdapterFailed, ConfigurationError, UnknownVoice, UnsupportedText

from .frames import AUDIO, CANCEL, DONE, MISSING, NO_SUCH_VOICE, SPEAK, parse_audio, receive, send
from .library import AudioSink, SpeechSettings


class SpeakerProcess:
    """Starts the speaker and speaks through it. Raises `ConfigurationError` where the library is missing."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - nothing in it comes from outside
                [sys.executable, "-m", f"{__package__}.speaker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        try:
            kind, payload = receive(self._connection)
        except EOFError:
            self.close()
            raise ConfigurationError("espeak's speaker process did not start; its own message is in the log") from None
        if kind == MISSING:
            self.close()
            raise ConfigurationError(payload.decode())

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def speak(self, text: str, settings: SpeechSettings, pace: float, sink: AudioSink) -> None:
        """Hand the speech to `sink` until it answers False.

        Raises `UnknownVoice`, `UnsupportedText` where the library crashes, `AdapterFailed` where the process is gone.
        """
        request = {"text": text, "settings": asdict(settings), "pace": pace}
        try:
            send(self._connection, SPEAK, json.dumps(request).encode())
            outcome = self._receive(sink)
        except (EOFError, OSError) as error:
            self.close()
            raise AdapterFailed("espeak's speaker process ended; the next call starts another") from error
        if outcome == NO_SUCH_VOICE:
            raise UnknownVoice(f"voice: libespeak-ng has no voice {settings.identifier!r}", param="voice")
        if outcome < 0:
            raise UnsupportedText(
                f"text: libespeak-ng crashes (signal {-outcome}) on a character of {text[:60]!r} with this voice; "
                "leave out unusual symbols",
                param="text",
            )
        if outcome:
            raise AdapterFailed("espeak's speaker failed; its own message is in the log")

    def close(self) -> None:
        """End the speaker, whatever it is doing."""
        self._process.terminate()
        self._process.wait()
        self._connection.close()

    def _receive(self, sink: AudioSink) -> int:
        is_wanted = True
        while True:
            kind, payload = receive(self._connection)
            if kind == DONE:
                return int(payload)
            if kind == AUDIO and is_wanted and not sink(*parse_audio(payload)):
                is_wanted = False
                send(self._connection, CANCEL)
