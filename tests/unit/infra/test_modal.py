"""Plan, settings and refusals of the Modal deploy commands; tests/integration/test_modal_deploy.py deploys."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.modal.__main__ import main
from infra.modal.plan import plan, route
from infra.modal.settings import ModalSettings
from tests.unit.workers.test_runner import make_spec
from yapit.errors import ConfigurationError
from yapit.function_spec import FunctionSpec, ModalSecret

TOKEN = {"MODAL_TOKEN_ID": "ak-1", "MODAL_TOKEN_SECRET": "as-secret"}


@dataclass
class FakeAccount:
    apps: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)

    def has_class(self, spec: FunctionSpec) -> bool:
        return spec.deployment_name in self.apps

    def has_secret(self, secret: ModalSecret) -> bool:
        return secret.name in self.secrets

    def has_volume(self, name: str) -> bool:
        return name in self.volumes


MODAL = {
    "gpus": ["L4", "A10G"],
    "snapshot": "memory",
    "target_concurrency": 2,
    "buffer_workers": 1,
    "volumes": {"/models": "tts-models"},
    "secrets": [{"name": "hf", "keys": ["HF_TOKEN"]}],
}


def test_a_plan_says_what_would_be_there_and_what_is_missing() -> None:
    planned = plan(make_spec(modal=MODAL, scaling={"min_workers": 1, "max_workers": 3}), FakeAccount())
    text = str(planned)
    assert planned.heading == "create the app yapit-tone"
    for said in ("L4 or A10G", "1 to 3, 1 spare", "4 at a time in each, another beyond 2", "memory", "day and night"):
        assert said in text
    assert planned.missing == (
        "the secret hf with HF_TOKEN is missing: .venv/bin/python -m modal secret create --force hf HF_TOKEN=…",
        "the volume tts-models, for /models, is missing: .venv/bin/python -m modal volume create tts-models",
    )


def test_what_is_there_is_not_missing_and_costs_nothing_when_idle() -> None:
    planned = plan(make_spec(modal=MODAL), FakeAccount({"yapit-tone"}, {"hf"}, {"tts-models"}))
    assert planned.heading == "deploy the app yapit-tone again: its ids stay"
    assert planned.missing == ()
    assert "day and night" not in str(planned)


def test_the_route_names_the_environment_only_where_there_is_one() -> None:
    assert route(make_spec(), "") == {
        "slug": "tone-modal",
        "function": "tone",
        "processor": "yapit.gateway.processors.tts.modal.ModalProcessor",
        "modal_app": "yapit-tone",
        "modal_class": "TTS",
    }
    assert route(make_spec(), "staging")["modal_environment"] == "staging"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without settings, and none in the environment."""
    monkeypatch.setenv("FUNCTIONS_DIR", str(Path(__file__).parents[2] / "functions"))
    monkeypatch.chdir(tmp_path)
    for name in (*TOKEN, "MODAL_SERVER_URL", "MODAL_ENVIRONMENT", "MODAL_KEY", "MODAL_SECRET"):
        monkeypatch.setenv(name, "")  # so that it is put back after the command has set it
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["deploy", "nobody"], TOKEN, "FUNCTION='nobody' is no function; there is gated, tone"),
        (["deploy", ""], TOKEN, "FUNCTION='' is no function; there is gated, tone"),
        (["plan", "tone"], {}, "make a token at https://modal.com/settings/tokens"),
        (["deploy", "tone"], {"MODAL_TOKEN_ID": "ak-1"}, "not both set"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environ: dict[str, str], said: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        main(arguments)
    assert said in str(caught.value)


@pytest.mark.usefixtures("elsewhere")
def test_without_the_cli_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TOKEN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "modal", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'yapit\[modal\]'"):
        main(["plan", "tone"])


@pytest.mark.usefixtures("elsewhere")
def test_an_empty_setting_is_not_in_the_environment_of_modals_sdk() -> None:
    environ = {"MODAL_SERVER_URL": "http://old", "MODAL_KEY": "wk-old", "MODAL_ENVIRONMENT": "old"}
    ModalSettings(_env_file=None, modal_token_id="ak-1", modal_token_secret="as-secret").apply(environ)
    assert environ == {**TOKEN, "MODAL_KEY": "", "MODAL_SECRET": ""}
