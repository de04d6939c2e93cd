"""Signed tokens (JWT, HS256): what the SDK hands back unread, and for inputs looks into."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from typing import Any

_HEADER = {"alg": "HS256", "typ": "JWT"}


class BadToken(ValueError):
    """A token that this emulator has not given, or not for this purpose."""


class Signer:
    """Tokens are good for as long as this emulator runs, unless they say less."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._header = _encode(json.dumps(_HEADER).encode())

    def sign(self, claims: dict[str, Any]) -> str:
        signed = f"{self._header}.{_encode(json.dumps(claims).encode())}"
        return f"{signed}.{_encode(self._mac(signed))}"

    def read(self, token: str) -> dict[str, Any]:
        """The claims. Raises `BadToken`."""
        signed, _, mac = token.rpartition(".")
        if not hmac.compare_digest(mac.encode(), _encode(self._mac(signed)).encode()):
            raise BadToken("the token is not of this emulator, or of one that has been restarted")
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        return claims

    def _mac(self, signed: str) -> bytes:
        return hmac.digest(self._key, signed.encode(), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
