"""Adapters that misbehave, through the gateway and every path: a clear error each, and a healthy server after it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Stack, running_stack

ADAPTERS = {
    "raises": ("Raises", 500, "adapter_failed"),
    "refuses": ("Refuses", 400, "unsupported_text"),
    "hangs": ("Hangs", 504, "synthesis_timeout"),
    "odd_bytes": ("OddBytes", 500, "invalid_audio"),
    "nothing": ("Nothing", 500, "no_audio"),
    "wrong_type": ("WrongType", 500, "invalid_audio"),
    "fails_to_start": ("FailsToStart", 503, "worker_unavailable"),
    "not_installed": ("NoSuchClass", 503, "worker_unavailable"),
}
SPEC = """
[project]
version = "1"
[tool.yapit.function]
adapter = "adapter.Bad"
display_name = "Bad"
license = "x"
languages = ["en"]
[tool.yapit.function.timeouts]
job_s = 0.2
"""
NOT_STARTED = {("-runpod", "not_installed"), ("-modal", "not_installed"), ("-modal", "fails_to_start")}
"""A worker that cannot be started fails the job at the provider. Modal starts one before it has jobs."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("bad")
    for name, (cls, _, _) in ADAPTERS.items():
        function = folder / "functions" / name
        function.mkdir(parents=True)
        (function / "pyproject.toml").write_text(SPEC)
        (function / "voices.json").write_text("[]")
        (function / "adapter.py").write_text(f"from tests.adapters import {cls} as Bad\n")
    with running_stack(folder / "functions", folder) as running:
        yield running


@pytest.mark.parametrize("path", ["", "-runpod", "-modal"], ids=["local", "runpod", "modal"])
@pytest.mark.parametrize(("name", "status", "code"), [(name, *rest) for name, (_, *rest) in ADAPTERS.items()])
def test_it_is_a_clear_error_and_the_server_stays_healthy(
    stack: Stack, name: str, status: int, code: str, path: str
) -> None:
    body = {"model": f"{name}{path}", "voice": "any", "input": "Hello."}
    response = httpx.post(f"{stack.url}/v1/audio/speech", json=body, timeout=30)
    if (path, name) in NOT_STARTED:
        status, code = 502, "upstream_failed"
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert "/root" not in response.text
    assert response.headers["x-should-retry"] == ("false" if status in (400, 500) else "true")
    assert httpx.get(f"{stack.url}/healthz").status_code == 200
