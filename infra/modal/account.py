"""What there is in a Modal account, asked through Modal's SDK, which reads from the environment where Modal is."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from infra.modal.settings import ModalSettings
from yapit.errors import ConfigurationError, DeploymentFailed
from yapit.function_spec import MODAL_CLASS, FunctionSpec, ModalSecret


def sdk() -> ModuleType:
    """Modal's SDK, which brings its CLI. Raises `ConfigurationError` where it is not installed."""
    try:
        import modal
    except ImportError as error:
        raise ConfigurationError(f"Modal's SDK is not installed ({error}): pip install 'yapit[modal]'") from None
    return modal


class Account:
    """Answers yes or no. Raises `ConfigurationError` for a token that Modal refuses, `DeploymentFailed` where it cannot
    be asked."""

    def __init__(self, settings: ModalSettings) -> None:
        self._sdk = sdk()
        client = self._sdk.Client.from_credentials(
            settings.modal_token_id, settings.modal_token_secret.get_secret_value()
        )
        self._where = {"environment_name": settings.modal_environment or None, "client": client}

    def has_class(self, spec: FunctionSpec) -> bool:
        """Whether the function is deployed."""
        return self._is_there(lambda: self._sdk.Cls.from_name(spec.deployment_name, MODAL_CLASS, **self._where))

    def has_secret(self, secret: ModalSecret) -> bool:
        """Whether there is a secret of that name that has all its keys."""
        return self._is_there(lambda: self._sdk.Secret.from_name(secret.name, required_keys=secret.keys, **self._where))

    def has_volume(self, name: str) -> bool:
        return self._is_there(lambda: self._sdk.Volume.from_name(name, **self._where))

    def _is_there(self, find: Callable[[], Any]) -> bool:
        known = self._sdk.exception
        try:
            find().hydrate()
        except known.NotFoundError:
            return False
        except known.AuthError as error:
            raise ConfigurationError(f"Modal refused the token: {error}; check MODAL_TOKEN_ID and the secret") from None
        except (known.Error, OSError) as error:
            raise DeploymentFailed(f"Modal cannot be asked ({type(error).__name__}): {error}") from None
        return True
