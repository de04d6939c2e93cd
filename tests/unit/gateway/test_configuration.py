"""Routes, settings and composition: what is wrong is named, with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.conftest import TEST_FUNCTIONS
from yapit.errors import ConfigurationError, UnknownModel
from yapit.function_spec import discover
from yapit.gateway.app import create_app
from yapit.gateway.registry import SpecRegistry
from yapit.gateway.routes import Route, import_class, load_routes
from yapit.gateway.settings import Settings

LOCAL = "yapit.gateway.processors.tts.local.LocalProcessor"
GOOD = {"slug": "tone", "processor": LOCAL, "worker_url": "http://127.0.0.1:1"}


def routes_file(folder: Path, content: object) -> Path:
    path = folder / "routes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_an_entry_keeps_its_processors_own_fields(tmp_path: Path) -> None:
    (route,) = load_routes(routes_file(tmp_path, [{**GOOD, "aliases": ["tts-1"]}]))
    assert (route.slug, route.function_name, route.aliases) == ("tone", "tone", ["tts-1"])
    assert route.options == {"worker_url": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "not JSON"),
        ({}, "must be a list of entries, found dict"),
        ([{"slug": "tone"}], "entry 0: processor: this field is required"),
        ([{**GOOD, "slug": "No Good"}], "entry 0: slug: string should match pattern"),
        ([{**GOOD, "max_parallel": 0}], "entry 0: max_parallel: input should be greater than or equal to 1"),
        ([GOOD, GOOD], "named twice: tone"),
        ([GOOD, {**GOOD, "slug": "b", "aliases": ["tone"]}], "named twice: tone"),
        ([{**GOOD, "fallback": ["nobody"]}], "tone: fallback to nobody, which no entry serves"),
        (["x"], "entry 0"),
    ],
)
def test_a_wrong_routes_file_is_refused(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_routes(routes_file(tmp_path, content))
    assert said in str(caught.value)


def test_a_missing_routes_file_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="TTS_PROCESSORS_FILE"):
        load_routes(tmp_path / "absent.json")


@pytest.mark.parametrize("path", ["nowhere", "yapit.nothing.Here", "yapit.gateway.routes.Nothing"])
def test_a_class_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(ConfigurationError, match=path.split(".")[-1]):
        import_class(path)


def settings(tmp_path: Path, routes: list[object], **changes: object) -> Settings:
    values = {"tts_processors_file": routes_file(tmp_path, routes), "functions_dir": TEST_FUNCTIONS, **changes}
    return Settings(_env_file=None, **values)


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ({**GOOD, "colour": "red"}, "colour: no such field"),
        ({**GOOD, "worker_url": "ftp://x"}, "worker_url: string should match"),
        ({**GOOD, "processor": "pathlib.Path"}, "pathlib.Path is no BaseTTSProcessor"),
        ({**GOOD, "function": "nobody"}, "there is no function 'nobody' (found gated, tone)"),
        ({**GOOD, "voice_aliases": {"alloy": "nobody"}}, "voice_aliases name nobody, not voices of tone"),
    ],
)
def test_a_route_that_cannot_be_served_stops_the_start(tmp_path: Path, route: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        create_app(settings(tmp_path, [route]))
    assert said in str(caught.value)


async def test_aliases_are_models_and_voices_under_another_name() -> None:
    route = Route(**{**GOOD, "aliases": ["tts-1"], "voice_aliases": {"alloy": "sine"}})
    registry = SpecRegistry([route], discover(TEST_FUNCTIONS))
    model = await registry.model("tts-1")
    assert model is await registry.model("tone")
    assert (model.voice_slug("alloy"), model.voice_slug("sine"), model.voice_slug("x")) == ("sine", "sine", "x")
    with pytest.raises(UnknownModel, match="'nobody' does not exist; there is tone, tts-1"):
        await registry.model("nobody")


@pytest.mark.parametrize(("host", "keys", "is_allowed"), [
    ("127.0.0.1", "", True), ("::1", "", True), ("localhost", "", True),
    ("0.0.0.0", "", False), ("10.0.0.5", "", False), ("example.org", " , ", False),
    ("0.0.0.0", "k1,k2", True),
])  # fmt: skip
def test_without_keys_only_loopback(host: str, keys: str, is_allowed: bool) -> None:
    settings = Settings(_env_file=None, gateway_host=host, gateway_api_keys=keys)
    if is_allowed:
        settings.check_bind()
    else:
        with pytest.raises(ConfigurationError, match="set GATEWAY_API_KEYS"):
            settings.check_bind()


def test_env_files_are_read_local_over_prod_and_the_environment_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNPOD_API_KEY", "GATEWAY_PORT", "REQUEST_TIMEOUT_S"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env.prod").write_text("RUNPOD_API_KEY=prod\nGATEWAY_PORT=1\nREQUEST_TIMEOUT_S=11\nOTHER=x\n")
    (tmp_path / ".env.local").write_text("RUNPOD_API_KEY=local\nGATEWAY_PORT=2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_PORT", "3")
    read = Settings()
    assert (read.runpod_api_key.get_secret_value(), read.gateway_port, read.request_timeout_s) == ("local", 3, 11)
    assert "local" not in repr(read)


async def test_with_keys_set_a_request_needs_one(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, [GOOD], gateway_api_keys="key-one, key-two"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
            refused = await client.get("/v1/models", headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert "x-request-id" in refused.headers
        for key in ("key-one", "key-two"):
            assert (await client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_a_worker_that_is_down_is_said_so(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, [GOOD]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["models"]) == (503, {"tone": False})
        body = {"model": "tone", "voice": "sine", "input": "Hello."}
        response = await client.post("/v1/audio/speech", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "worker_unavailable")
        assert response.headers["retry-after"] == "1"
        assert response.headers["x-should-retry"] == "true"


async def test_a_provider_without_an_account_takes_no_other_route_down(tmp_path: Path) -> None:
    processors = "yapit.gateway.processors.tts"
    runpod = {"slug": "far", "function": "tone", "processor": f"{processors}.runpod.RunpodProcessor"}
    app = create_app(settings(tmp_path, [GOOD, {**runpod, "runpod_endpoint_id": "ep"}], runpod_api_key=""))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        ready = (await client.get("/readyz")).json()
        assert ready["models"] == {"tone": False}
        assert ready["unconfigured"] == {"far": "route far: RUNPOD_API_KEY is not set"}
        assert {model["id"] for model in (await client.get("/v1/models")).json()["data"]} >= {"tone", "far"}
        body = {"model": "far", "voice": "sine", "input": "Hello."}
        refused = await client.post("/v1/audio/speech", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_configured")
        assert "RUNPOD_API_KEY" in refused.json()["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"


def test_a_route_that_is_wrong_is_refused_with_and_without_an_account(tmp_path: Path) -> None:
    wrong = {"slug": "far", "function": "tone", "processor": "yapit.gateway.processors.tts.runpod.RunpodProcessor"}
    with pytest.raises(ConfigurationError, match="runpod_endpoint_id"):
        create_app(settings(tmp_path, [wrong], runpod_api_key=""))
