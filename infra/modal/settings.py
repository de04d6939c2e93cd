"""Every setting of the Modal deploy commands: from `.env.prod`, `.env.local` and, over both, the environment."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.processes import EMULATOR_API_KEY, EMULATOR_MODAL_PORT, EMULATOR_MODAL_TOKEN_ID, EMULATOR_PORT, answers
from yapit.errors import ConfigurationError

Target = Literal["modal", "emulator"]


class ModalSettings(BaseSettings):
    model_config = SettingsConfigDict(env_file=(".env.prod", ".env.local"), extra="ignore", frozen=True)

    modal_token_id: str = ""
    modal_token_secret: pydantic.SecretStr = pydantic.SecretStr("")
    modal_server_url: str = ""
    """Empty: where the SDK says that Modal is."""
    modal_environment: str = ""
    """Empty: the account's default."""
    modal_key: pydantic.SecretStr = pydantic.SecretStr("")
    modal_secret: pydantic.SecretStr = pydantic.SecretStr("")
    """A proxy token: with it the smoke test takes the web endpoint, as the gateway does."""
    tts_processors_file: Path = Path("tts_processors.json")

    emulator_port: int = EMULATOR_PORT
    emulator_modal_port: int = EMULATOR_MODAL_PORT
    emulator_api_key: pydantic.SecretStr = pydantic.SecretStr(EMULATOR_API_KEY)

    @classmethod
    def read(cls, target: Target) -> Self:
        """The settings for `target`. Raises `ConfigurationError` where a token is missing, or no emulator runs."""
        settings = cls()
        if target == "emulator":
            return settings._of_emulator()
        if not (settings.modal_token_id and settings.modal_token_secret.get_secret_value()):
            raise ConfigurationError(
                "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET are not both set: make a token at "
                "https://modal.com/settings/tokens and put both into .env.local, or try without an account: "
                "TARGET=emulator"
            )
        return settings

    def _of_emulator(self) -> Self:
        url = f"http://127.0.0.1:{self.emulator_port}"
        if not answers(f"{url}/healthz"):
            raise ConfigurationError(f"no emulator answers at {url}: start one with make emulate, in another terminal")
        changes = {
            "modal_token_id": EMULATOR_MODAL_TOKEN_ID,
            "modal_token_secret": self.emulator_api_key,
            "modal_server_url": f"http://127.0.0.1:{self.emulator_modal_port}",
            "modal_environment": "",
            "modal_key": pydantic.SecretStr(""),
            "modal_secret": pydantic.SecretStr(""),
        }
        return self.model_copy(update=changes)

    def apply(self, environ: MutableMapping[str, str]) -> None:
        """Into the environment, where Modal's SDK, its CLI and a gateway look. What is empty is not there for the first
        two; the gateway is told so, or it would find it in a file."""
        found = {
            "MODAL_TOKEN_ID": self.modal_token_id,
            "MODAL_TOKEN_SECRET": self.modal_token_secret.get_secret_value(),
            "MODAL_SERVER_URL": self.modal_server_url,
            "MODAL_ENVIRONMENT": self.modal_environment,
        }
        for name, value in found.items():
            if value:
                environ[name] = value
            else:
                environ.pop(name, None)
        environ["MODAL_KEY"] = self.modal_key.get_secret_value()
        environ["MODAL_SECRET"] = self.modal_secret.get_secret_value()
