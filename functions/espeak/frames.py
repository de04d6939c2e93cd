"""What crosses the socket between the adapter's process and the speaker's. Plain structs: one side may be corrupted.

To the speaker: `SPEAK` (JSON) and `CANCEL`. From it: once `READY` or `MISSING` (a message), then for every `SPEAK` any
number of `AUDIO` and one `DONE` (how the fork ended: 0, `NO_SUCH_VOICE`, or minus the signal that killed it).
"""

from __future__ import annotations

import socket
import struct

from .library import SpeechEvent

SPEAK, CANCEL, READY, MISSING, AUDIO, DONE = b"S", b"C", b"R", b"M", b"A", b"D"
NO_SUCH_VOICE = 3

_HEADER = struct.Struct("<cI")
_COUNT = struct.Struct("<I")
_EVENT = struct.Struct("<4i")


def send(connection: socket.socket, kind: bytes, payload: bytes = b"") -> None:
    connection.sendall(_HEADER.pack(kind, len(payload)) + payload)


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """Kind and payload of the next frame. Raises `EOFError` where the other side has left."""
    kind, size = _HEADER.unpack(_exactly(connection, _HEADER.size))
    return kind, _exactly(connection, size)


def audio_payload(pcm: bytes, events: list[SpeechEvent]) -> bytes:
    return _COUNT.pack(len(events)) + b"".join(_EVENT.pack(*event) for event in events) + pcm


def parse_audio(payload: bytes) -> tuple[bytes, list[SpeechEvent]]:
    (count,) = _COUNT.unpack_from(payload)
    end = _COUNT.size + count * _EVENT.size
    return payload[end:], [SpeechEvent(*fields) for fields in _EVENT.iter_unpack(payload[_COUNT.size : end])]


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
