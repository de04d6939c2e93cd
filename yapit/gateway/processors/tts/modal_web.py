"""What Modal's edge does to a request on its way to a web endpoint.

A request that has no answer after 150 s is answered 303 with a result URL: the same address with the call's id. That is
to be fetched with GET, blocks for another 150 s, and may answer 303 again (docs, request timeouts). httpx follows none
of it by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from yapit.errors import Overloaded, UpstreamFailed, UpstreamRefused, WorkerUnavailable, YapitError
from yapit.gateway.processors.tts import base

CALL_ID_PARAMETER = "__modal_function_call_id"  # in the result URLs that Modal's users report (modal-client#4112)
MAX_RESULT_URLS = 20
"""As many as browsers follow (docs): 50 minutes."""


class ResultUrls:
    """Follows one job through its result URLs. `call_id` is the call's, once Modal has told it."""

    def __init__(self, slug: str, headers: Mapping[str, str]) -> None:
        self._slug, self._headers, self._followed = slug, headers, 0
        self.call_id: str | None = None

    def follow(self, response: httpx.Response) -> httpx.Request | None:
        """The request that fetches the result, if the answer is a 303. Raises `UpstreamFailed` for one that leads
        elsewhere, and must not be handed the proxy token, or nowhere."""
        if response.status_code != 303:
            return None
        asked = response.request.url
        try:
            target = asked.join(response.headers.get("location", ""))
        except httpx.InvalidURL:
            raise UpstreamFailed(f"{self._slug}: Modal redirects the job to what is no address") from None
        if (target.scheme, target.host, target.port) != (asked.scheme, asked.host, asked.port):
            raise UpstreamFailed(f"{self._slug}: Modal redirects the job to another server, {target.host}")
        self._followed += 1
        if self._followed > MAX_RESULT_URLS:
            raise UpstreamFailed(f"{self._slug}: Modal still has no result after {MAX_RESULT_URLS} result URLs")
        self.call_id = target.params.get(CALL_ID_PARAMETER) or self.call_id
        return httpx.Request("GET", target, headers={**self._headers, "Accept": "text/event-stream"})


def refusal(slug: str) -> Callable[[httpx.Response], YapitError | None]:
    """What the edge's own answers mean. Those of the worker are JSON."""

    def meant(response: httpx.Response) -> YapitError | None:
        if "json" in response.headers.get("content-type", ""):
            return None
        match response.status_code:
            case 401 | 403:
                return UpstreamRefused(f"{slug}: Modal refused the proxy token; check MODAL_KEY and MODAL_SECRET")
            case 404:
                return UpstreamRefused(f"{slug}: Modal serves no such web endpoint (404); deploy the app again")
            case 429:
                message = f"{slug}: Modal limits the rate (429)"
                return Overloaded(message, retry_after_s=base.retry_after_s(response))
            case 502 | 503 | 504 as status:
                return WorkerUnavailable(f"{slug}: Modal reaches no container ({status})")
        return None

    return meant
