"""Modal's form of ASGI, against the SDK's own (modal 1.6.4), which is what runs in a container."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from modal._serialization import deserialize_data_format, serialize_data_format

from emulator.modal.asgi import ASGI, NotAsgi, decode_message, encode_message, encode_scope

HEADERS = [(b"content-type", b"text/plain"), (b"x", b"1")]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.request", "body": b"some", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ],
)
def test_a_container_reads_what_the_client_sends(message: dict[str, Any]) -> None:
    assert deserialize_data_format(encode_message(message), ASGI, None) == message


@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.response.start", "status": 201, "headers": HEADERS, "trailers": False},
        {"type": "http.response.body", "body": b"audio", "more_body": True},
        {"type": "http.response.trailers", "headers": HEADERS, "more_trailers": False},
    ],
)
def test_what_a_container_answers_is_read(message: dict[str, Any]) -> None:
    assert decode_message(serialize_data_format(message, ASGI)) == message


def test_a_message_that_the_sdk_has_no_form_for_is_nothing() -> None:
    assert decode_message(serialize_data_format({"type": "http.response.debug"}, ASGI)) is None


def test_what_is_no_message_of_an_application_is_refused() -> None:
    with pytest.raises(NotAsgi):
        decode_message(encode_message({"type": "http.disconnect"}))
    with pytest.raises(NotAsgi):
        decode_message(b"\xff\xff")
    with pytest.raises(NotAsgi):
        encode_message({"type": "websocket.receive"})


def test_the_applications_path_begins_where_the_endpoint_is() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "root_path": "/modal/web/app",
        "path": "/modal/web/app/say",
        "query_string": b"a=1",
        "headers": HEADERS,
        "client": ("127.0.0.1", 5),
    }
    (told,), named = cbor2.loads(encode_scope(scope))
    assert (told["path"], told["query_string"], told["method"], named) == ("/say", b"a=1", "POST", {})
    assert [tuple(header) for header in told["headers"]] == HEADERS
