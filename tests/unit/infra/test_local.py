"""The routes that `make emulate` serves: the committed ones, and what is missing for the functions that are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.local import EffectiveRoutes, emulator_routes
from infra.routes_file import put_entry, remove_entry
from tests.conftest import TEST_FUNCTIONS
from yapit.errors import ConfigurationError
from yapit.function_spec import discover

TONE = {
    "slug": "tone",
    "processor": "yapit.gateway.processors.tts.local.LocalProcessor",
    "worker_url": "http://127.0.0.1:8900/workers/tone",
    "aliases": ["tts-1"],
    "voice_aliases": {"alloy": "sine"},
}
DEPLOYED = {"slug": "tone-runpod", "function": "tone", "processor": "x.Y", "runpod_endpoint_id": "4m7x2k9q"}


def by_slug(committed: list[dict[str, object]], port: int = 8900) -> dict[str, dict[str, object]]:
    return {route["slug"]: route for route in emulator_routes(committed, discover(TEST_FUNCTIONS), port)}


def test_every_function_is_there_over_http_and_through_each_providers_api() -> None:
    routes = by_slug([TONE], port=1234)
    assert list(routes) == [
        "tone",
        *(f"gated{suffix}" for suffix in ("", "-runpod", "-runpod-lb", "-modal")),
        *("tone-runpod", "tone-runpod-lb", "tone-modal"),
    ]
    assert routes["tone"] == {**TONE, "worker_url": "http://127.0.0.1:1234/workers/tone"}
    assert routes["gated"]["worker_url"] == "http://127.0.0.1:1234/workers/gated"
    assert routes["tone-runpod"]["runpod_endpoint_id"] == "tone"
    assert (routes["tone-modal"]["modal_app"], routes["tone-modal"]["modal_class"]) == ("yapit-tone", "TTS")
    balanced = routes["tone-runpod-lb"]
    assert (balanced["runpod_endpoint_id"], balanced["endpoint_type"]) == ("tone-lb", "load_balancer")
    for way in ("tone-runpod", "tone-runpod-lb", "tone-modal"):
        assert routes[way]["voice_aliases"] == {"alloy": "sine"}
        assert "aliases" not in routes[way]


def test_a_deployed_endpoints_route_stands_in_for_the_one_made_up() -> None:
    assert by_slug([DEPLOYED])["tone-runpod"] == DEPLOYED


def test_a_name_that_is_an_alias_already_is_left_alone() -> None:
    routes = by_slug([{**TONE, "aliases": ["tone-runpod"]}])
    assert list(routes) == [
        "tone",
        *(f"gated{suffix}" for suffix in ("", "-runpod", "-runpod-lb", "-modal")),
        *("tone-runpod-lb", "tone-modal"),
    ]


def test_the_effective_file_follows_the_committed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTIONS_DIR", str(TEST_FUNCTIONS))
    committed, effective = tmp_path / "committed.json", tmp_path / "effective.json"
    routes = EffectiveRoutes(committed, effective, 8900)

    def endpoint_id() -> str:
        (found,) = [route for route in json.loads(effective.read_text()) if route["slug"] == "tone-runpod"]
        return str(found["runpod_endpoint_id"])

    routes.refresh()
    assert endpoint_id() == "tone"
    put_entry(committed, DEPLOYED)
    routes.refresh()
    assert endpoint_id() == "4m7x2k9q"
    before = effective.stat().st_mtime_ns
    routes.refresh()
    assert effective.stat().st_mtime_ns == before
    committed.write_text("[")
    with pytest.raises(ConfigurationError, match="not JSON"):
        routes.refresh()
    assert endpoint_id() == "4m7x2k9q"
    put_entry_over(committed)
    routes.refresh()
    assert endpoint_id() == "tone"


def put_entry_over(committed: Path) -> None:
    committed.write_text(json.dumps([DEPLOYED]))
    remove_entry(committed, "tone-runpod")
