"""ASGI's scopes and messages as Modal carries them to and from its containers: the protobuf message `Asgi`.

Only HTTP. The counterpart in the SDK is private (modal 1.6.4, `_serialization`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from modal_proto import api_pb2
from starlette.types import Message

from emulator.modal.protocol import encode

ASGI = api_pb2.DATA_FORMAT_ASGI


class NotAsgi(ValueError):
    """A message that is not ASGI's, or not one for HTTP."""


def encode_scope(scope: Mapping[str, Any]) -> bytes:
    """The scope of an HTTP request as the one argument of a call, in CBOR: a web endpoint's container takes it as
    that. State is the container's own."""
    told = {
        "type": "http",
        "http_version": scope.get("http_version", "1.1"),
        "method": scope["method"],
        "scheme": scope.get("scheme", "http"),
        "path": scope["path"].removeprefix(scope.get("root_path", "")) or "/",
        "query_string": scope.get("query_string", b""),
        "headers": [list(header) for header in scope["headers"]],
        "client": list(scope["client"]) if scope.get("client") else None,
        "extensions": {"http.response.trailers": {}},
    }
    return encode([[told], {}])


def encode_message(message: Message) -> bytes:
    """A message to an application: `http.request` or `http.disconnect`. Raises `NotAsgi`."""
    match message["type"]:
        case "http.request":
            body = api_pb2.Asgi.HttpRequest(
                body=message.get("body", b""), more_body=bool(message.get("more_body", False))
            )
            return bytes(api_pb2.Asgi(http_request=body).SerializeToString())
        case "http.disconnect":
            return bytes(api_pb2.Asgi(http_disconnect=api_pb2.Asgi.HttpDisconnect()).SerializeToString())
    raise NotAsgi(f"{message['type']} is not a message to an HTTP application")


def decode_message(data: bytes) -> Message | None:
    """A message from an application; None for one that the container's SDK had no form for. Raises `NotAsgi`."""
    try:
        found = api_pb2.Asgi.FromString(data)
    except DecodeError:
        raise NotAsgi("not a message of ASGI in protobuf") from None
    match found.WhichOneof("type"):
        case None:
            return None
        case "http_response_start":
            start = found.http_response_start
            return {
                "type": "http.response.start",
                "status": start.status,
                "headers": _pairs(start.headers),
                "trailers": start.trailers,
            }
        case "http_response_body":
            body = found.http_response_body
            return {"type": "http.response.body", "body": body.body, "more_body": body.more_body}
        case "http_response_trailers":
            trailers = found.http_response_trailers
            return {
                "type": "http.response.trailers",
                "headers": _pairs(trailers.headers),
                "more_trailers": trailers.more_trailers,
            }
        case other:
            raise NotAsgi(f"{other} is not a message from an HTTP application")


def _pairs(flat: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    parts = list(flat)
    return list(zip(parts[::2], parts[1::2], strict=True))
