"""Every setting of the Modal deploy commands: from `.env.prod`, `.env.local` and, over both, the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.emulator import emulator_at
from infra.processes import (
    EMULATOR_API_KEY,
    EMULATOR_MODAL_KEY,
    EMULATOR_MODAL_PORT,
    EMULATOR_MODAL_TOKEN_ID,
    EMULATOR_PORT,
)
from yapit.errors import ConfigurationError, InvalidRequest

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
        """The settings for `target`. Raises `ConfigurationError` where a token is missing."""
        try:
            settings = cls()
        except pydantic.ValidationError as error:
            raise ConfigurationError(f"the environment: {InvalidRequest.from_validation(error)}") from None
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
        changes = {
            "modal_token_id": EMULATOR_MODAL_TOKEN_ID,
            "modal_token_secret": self.emulator_api_key,
            "modal_server_url": f"http://127.0.0.1:{self.emulator_modal_port}",
            "modal_environment": "",
            "modal_key": pydantic.SecretStr(EMULATOR_MODAL_KEY),
            "modal_secret": self.emulator_api_key,
        }
        return self.model_copy(update=changes)

    @contextmanager
    def reachable(self, target: Target) -> Iterator[None]:
        """In the block the target answers, and the environment says where it is. Raises `ConfigurationError`."""
        self.apply(os.environ)
        if target == "modal":
            yield
            return
        environ = {
            "EMULATOR_PORT": str(self.emulator_port),
            "EMULATOR_MODAL_PORT": str(self.emulator_modal_port),
            "EMULATOR_API_KEY": self.emulator_api_key.get_secret_value(),
            "TTS_PROCESSORS_FILE": str(self.tts_processors_file),
        }
        with emulator_at(f"http://127.0.0.1:{self.emulator_port}", environ):
            yield

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
