"""Every environment variable of the gateway. `.env.prod` and `.env.local` are read where they exist, the latter winning
over the former, and the environment over both."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic_settings import BaseSettings, SettingsConfigDict

from yapit.errors import ConfigurationError


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=(".env.prod", ".env.local"), extra="ignore", frozen=True)

    gateway_host: str = "127.0.0.1"
    gateway_port: int = 8000
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    gateway_api_keys: str = ""
    """Comma-separated keys that clients must send as `Authorization: Bearer`. Needed to listen beyond loopback."""
    tts_processors_file: Path = Path("tts_processors.json")
    functions_dir: Path = Path("functions")
    request_timeout_s: float = 300.0
    """How long one request may wait for its speech at most. What its function grants a cold start comes on top; the
    client's reading is not counted."""

    runpod_api_base: str = "https://api.runpod.ai/v2"
    runpod_lb_base: Annotated[str, pydantic.Field(pattern=r"^https?://\S*\{id\}\S*$")] = "https://{id}.api.runpod.ai"
    """Of load-balancing endpoints; `{id}` stands for the endpoint."""
    runpod_api_key: pydantic.SecretStr = pydantic.SecretStr("")

    modal_token_id: str = ""
    modal_token_secret: pydantic.SecretStr = pydantic.SecretStr("")
    modal_server_url: str = ""
    """Empty: where the SDK says that Modal is."""
    modal_key: pydantic.SecretStr = pydantic.SecretStr("")
    modal_secret: pydantic.SecretStr = pydantic.SecretStr("")
    """A proxy token, which Modal's web endpoints ask for. Without it everything goes through the SDK."""

    @property
    def api_keys(self) -> frozenset[str]:
        return frozenset(key.strip() for key in self.gateway_api_keys.split(",") if key.strip())

    def check_bind(self) -> None:
        """Raises `ConfigurationError` where anybody on the network could spend the owner's money."""
        if not self.api_keys and not _is_loopback(self.gateway_host):
            raise ConfigurationError(
                f"GATEWAY_HOST={self.gateway_host} is reachable from other machines and no API key is set: "
                "set GATEWAY_API_KEYS, or GATEWAY_HOST=127.0.0.1"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
