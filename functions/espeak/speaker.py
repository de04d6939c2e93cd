"""The process that holds libespeak-ng: `python -m functions.espeak.speaker FD`, FD being its end of a socket pair.

It initialises the library and never speaks itself: for every call it forks, and the fork speaks and ends. So

- every call starts from the same state. The library keeps the place in its flutter table, its gain control, the rest
  of an aborted call … in static variables that nothing resets, `espeak_Initialize` included: in one process the same
  text never sounds the same twice;
- a text that crashes the library (a lone ⓜ does, with a Nepali voice) ends that call and nothing else;
- the dictionaries that the library never frees go with the fork.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys

from .frames import AUDIO, DONE, MISSING, NO_SUCH_VOICE, READY, SPEAK, audio_payload, receive, send
from .library import EspeakLibrary, LibraryMissing, SpeechEvent, SpeechSettings
from .stretch import Stretcher

MAX_CPU_S = 60  # a thousand times as long as a job's text takes


def serve(connection: socket.socket) -> None:
    """Answer calls until the other side leaves."""
    try:
        library = EspeakLibrary()
    except LibraryMissing as error:
        send(connection, MISSING, str(error).encode())
        return
    send(connection, READY)
    while True:
        try:
            kind, payload = receive(connection)
        except EOFError:
            return
        if kind != SPEAK:
            continue  # a cancellation that came after the end
        process = os.fork()
        if not process:
            _speak_and_exit(library, connection, payload)
        _, status = os.waitpid(process, 0)
        send(connection, DONE, str(os.waitstatus_to_exitcode(status)).encode())


def _speak_and_exit(library: EspeakLibrary, connection: socket.socket, payload: bytes) -> None:
    exit_code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        request = json.loads(payload)
        settings = SpeechSettings(**request["settings"])
        exit_code = 0 if _speak(library, connection, request["text"], settings, request["pace"]) else NO_SUCH_VOICE
    finally:
        os._exit(exit_code)


def _speak(library: EspeakLibrary, connection: socket.socket, text: str, settings: SpeechSettings, pace: float) -> bool:
    stretcher = Stretcher(library.api, pace)

    def sink(pcm: bytes, events: list[SpeechEvent]) -> bool:
        send(connection, AUDIO, audio_payload(stretcher.stretch(pcm), events))
        # while a call runs, the only thing that can come in is its cancellation
        return not select.select([connection], [], [], 0)[0]

    is_voice = library.speak(text, settings, sink)
    send(connection, AUDIO, audio_payload(stretcher.flush(), []))
    return is_voice


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the socket's end says when
    with socket.socket(fileno=int(sys.argv[1])) as end:
        serve(end)
