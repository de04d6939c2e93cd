"""The key of a request to RunPod's APIs."""

from __future__ import annotations

import hmac

from starlette.requests import Request


def is_authorised(request: Request, api_key: str) -> bool:
    """The key as a bearer token, or raw: as workers send it, and curl in the documentation's examples."""
    found = request.headers.get("authorization", "")
    if found[:7].lower() == "bearer ":
        found = found[7:]
    return bool(api_key) and hmac.compare_digest(found.encode(), api_key.encode())
