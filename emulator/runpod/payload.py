"""Outputs as the JSON text that a worker would post: made once, measured, and sent on as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from emulator.runpod import facts


class RawJson(bytes):
    """JSON text in UTF-8."""


class NotJson(ValueError):
    """The SDK could not post this output: it logs an error and the job never ends [RUN]."""


def encode(output: Any) -> RawJson:
    """The text that the SDK posts (`json.dumps(…, ensure_ascii=False)`, runpod 1.12.0 `rp_http`).

    Raises `NotJson`, also for NaN and infinities: the SDK sends those, but they are no JSON for whoever reads them.
    """
    try:
        return RawJson(json.dumps(output, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(f"output is not JSON and would be lost at RunPod: {error}") from None


def render(answer: Mapping[str, Any]) -> bytes:
    """A JSON object. `RawJson`, and lists and objects of it, go in as they are."""
    return _text(answer)


def split(chunk: Any) -> list[Any]:
    """A stream chunk above 1 MB in several [DOCS]: text as texts.

    How RunPod cuts other kinds is not known [?]: here their JSON is cut into texts, so that nobody comes to rely on
    larger ones.
    """
    text = chunk if isinstance(chunk, RawJson) else encode(chunk)
    if len(text) <= facts.STREAM_CHUNK_BYTES:
        return [text]
    whole = json.loads(text) if text.startswith(b'"') else text.decode()
    size = facts.STREAM_CHUNK_BYTES if whole.isascii() else facts.STREAM_CHUNK_BYTES // 4
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def join(chunks: list[RawJson]) -> RawJson:
    """The list of these outputs."""
    return RawJson(b"[" + b",".join(chunks) + b"]")


def _text(value: Any) -> bytes:
    if isinstance(value, RawJson):
        return value
    if isinstance(value, Mapping):
        return b"{" + b",".join(_text(str(key)) + b":" + _text(value[key]) for key in value) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(_text(item) for item in value) + b"]"
    return json.dumps(value).encode()
