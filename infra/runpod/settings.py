"""Every setting of the RunPod deploy commands: from `.env.prod`, `.env.local` and, over both, the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import pydantic
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.processes import EMULATOR_API_KEY, EMULATOR_PORT
from yapit.errors import ConfigurationError, InvalidRequest

Target = Literal["runpod", "emulator"]
API_BASE, LB_BASE = "https://api.runpod.ai/v2", "https://{id}.api.runpod.ai"
MANAGEMENT_BASE = "https://api.runpod.io/v2"


class RunpodSettings(BaseSettings):
    model_config = SettingsConfigDict(env_file=(".env.prod", ".env.local"), extra="ignore", frozen=True)

    runpod_api_key: pydantic.SecretStr = pydantic.SecretStr("")
    runpod_api_base: str = API_BASE
    runpod_lb_base: str = LB_BASE
    runpod_management_base: str = MANAGEMENT_BASE
    tts_processors_file: Path = Path("tts_processors.json")

    image: str = ""
    """An image that is pushed already, in place of building one."""
    image_registry: str = ""
    """Where images are pushed: host and name, `docker.io/your-name`."""
    container_engine: str = ""
    """docker, podman or buildah; empty: the first that is found."""
    registry_username: str = ""
    registry_password: pydantic.SecretStr = pydantic.SecretStr("")
    """Both set: RunPod pulls with them. It keeps them as credentials named after the registry's host."""

    emulator_port: int = EMULATOR_PORT
    emulator_api_key: pydantic.SecretStr = pydantic.SecretStr(EMULATOR_API_KEY)

    @classmethod
    def read(cls, target: Target) -> Self:
        """The settings for `target`. Raises `ConfigurationError` where the key is missing."""
        try:
            settings = cls()
        except pydantic.ValidationError as error:
            raise ConfigurationError(f"the environment: {InvalidRequest.from_validation(error)}") from None
        if target == "emulator":
            base = f"{settings.emulator_url}/v2"
            changes = {
                "runpod_api_base": base,
                "runpod_lb_base": f"{settings.emulator_url}/lb/{{id}}",
                "runpod_management_base": base,
                "runpod_api_key": settings.emulator_api_key,
            }
            return settings.model_copy(update=changes)
        if not settings.runpod_api_key.get_secret_value():
            raise ConfigurationError(
                "RUNPOD_API_KEY is not set: make a key that may read and write at "
                "https://console.runpod.io/user/settings and put RUNPOD_API_KEY=… into .env.local, or try without an "
                "account: TARGET=emulator"
            )
        return settings

    @property
    def emulator_url(self) -> str:
        return f"http://127.0.0.1:{self.emulator_port}"

    @property
    def has_registry_login(self) -> bool:
        return bool(self.registry_username and self.registry_password.get_secret_value())

    def gateway_environ(self) -> dict[str, str]:
        """What a gateway needs to reach the same endpoints."""
        return {
            "RUNPOD_API_KEY": self.runpod_api_key.get_secret_value(),
            "RUNPOD_API_BASE": self.runpod_api_base,
            "RUNPOD_LB_BASE": self.runpod_lb_base,
        }
