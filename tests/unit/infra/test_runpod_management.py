"""The client of the management API: whatever goes wrong says what to do, and no secret is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.runpod.management import ManagementClient
from yapit.errors import DeploymentFailed

KEY = "rpa_secret"


def client(answer: Callable[[httpx.Request], httpx.Response]) -> ManagementClient:
    return ManagementClient("https://api.example/v2", KEY, transport=httpx.MockTransport(answer))


def problem(status: int, detail: str, errors: list[str] | None = None, **headers: str) -> httpx.Response:
    body = {"title": "x", "status": status, "detail": detail, **({"errors": errors} if errors else {})}
    return httpx.Response(status, json=body, headers={"x-request-id": "req-1", **headers})


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (problem(401, "invalid bearer token"), "check RUNPOD_API_KEY"),
        (problem(403, "access denied"), "needs read and write access"),
        (problem(400, "max workers must not exceed your workers quota (5)"), "Lower max_workers"),
        (problem(402, "payment required"), "Add funds"),
        (problem(400, "insufficient balance"), "Add funds"),
        (problem(429, "slow down", **{"retry-after": "7"}), "Try again in 7 s"),
        (problem(500, "oops"), "RunPod's own failure"),
        (problem(422, "Request validation failed.", ["$: additional properties 'x' not allowed"]), "'x' not allowed"),
        (httpx.Response(502, text="<html>"), "502 Bad Gateway"),
        (httpx.Response(200, text="<html>"), "without a JSON object; is the address right?"),
    ],
)
def test_a_refusal_says_what_runpod_said_and_what_to_do(response: httpx.Response, said: str) -> None:
    with client(lambda _: response) as api, pytest.raises(DeploymentFailed) as caught:
        api.create({"name": "x"})
    assert said in str(caught.value)
    assert "POST https://api.example/v2/serverless" in str(caught.value)
    assert KEY not in str(caught.value)
    if "x-request-id" in response.headers:
        assert "request req-1" in str(caught.value)


def test_no_answer_is_told() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with client(fail) as api, pytest.raises(DeploymentFailed, match=r"no answer \(ConnectError\)"):
        api.find("x")


def test_an_endpoint_is_found_by_its_name_if_it_is_the_only_one() -> None:
    endpoints = [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "b"}]
    endpoints.append({"id": "4", "name": "d -fb"})

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        return httpx.Response(200, json={"endpoints": endpoints})

    with client(answer) as api:
        assert api.find("a") == endpoints[0]
        assert api.find("d") == endpoints[3]
        assert api.find("c") is None
        with pytest.raises(DeploymentFailed, match=r"2 endpoints are called 'b' \(2, 3\)"):
            api.find("b")


def test_deleting_has_no_body_and_credentials_are_sent_once() -> None:
    asked: list[tuple[str, str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, json.loads(request.content or "null")))
        if request.method == "DELETE":
            return httpx.Response(204)
        if request.method == "POST":
            return httpx.Response(201, json={"id": "reg1", "name": "ghcr.io"})
        return httpx.Response(200, json={"registries": [{"id": "reg1", "name": "ghcr.io"}]})

    with client(answer) as api:
        api.delete("abc")
        assert api.create_registry("ghcr.io", "me", "hunter2") == "reg1"
        assert api.registry_named("ghcr.io") == "reg1"
        assert api.registry_named("docker.io") is None
    assert asked[0] == ("DELETE", "/v2/serverless/abc", None)
    assert asked[1][2] == {"name": "ghcr.io", "username": "me", "password": "hunter2"}


class _SilentAfter(httpx.SyncByteStream):
    """A log that says these lines and then nothing for too long."""

    def __init__(self, *lines: str) -> None:
        self._lines = lines

    def __iter__(self) -> Any:
        for line in self._lines:
            yield f"id: x\ndata: {json.dumps({'source': 'container', 'line': line, 'ts': 'x'})}\n\n".encode()
        raise httpx.ReadTimeout("silence")


def test_the_last_lines_of_a_log_end_with_its_silence() -> None:
    with client(lambda _: httpx.Response(200, stream=_SilentAfter("a", "b"))) as api:
        assert api.last_lines("e", "w", 20) == ["a", "b"]
    with client(lambda _: httpx.Response(404)) as api:
        assert api.last_lines("e", "w", 20) == []
