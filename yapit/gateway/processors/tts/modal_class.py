"""A deployed Modal class through Modal's own SDK, which is imported where a route needs it and not before.

The SDK reads its server and its payload format from the environment when a client is opened (modal 1.6.4, `config`).
Payloads are CBOR: asked for it, Modal's containers pickle neither results nor errors.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from yapit.errors import (
    NotConfigured,
    Overloaded,
    SynthesisTimeout,
    UpstreamFailed,
    UpstreamRefused,
    WorkerUnavailable,
    YapitError,
)
from yapit.gateway.settings import Settings

logger = logging.getLogger(__name__)

_opening = threading.Lock()  # the environment is the process's


@dataclass(frozen=True, slots=True)
class ClassName:
    """Where a class is: app, class, and environment (empty: the account's default)."""

    app: str
    name: str
    environment: str = ""

    def __str__(self) -> str:
        where = f" in environment {self.environment}" if self.environment else ""
        return f"{self.app}.{self.name}{where}"


@dataclass(frozen=True, slots=True)
class Handles:
    """The methods of the class, as the SDK calls them, and where its web endpoint is, if it has one."""

    client: Any
    synthesize: Any
    stream: Any
    web_url: str | None


class ModalClass:
    """Looked up at first use. `slug` names the route in messages.

    Raises `NotConfigured` where the SDK is not installed or no token is set. Every method raises what Modal's
    failures mean, as errors of ours.
    """

    def __init__(self, name: ClassName, settings: Settings, *, slug: str) -> None:
        self._sdk = _import_sdk(slug)
        self._token = (settings.modal_token_id, settings.modal_token_secret.get_secret_value())
        if not all(self._token):
            raise NotConfigured(f"route {slug}: MODAL_TOKEN_ID and MODAL_TOKEN_SECRET are not both set")
        self._name, self._server_url, self._slug = name, settings.modal_server_url, slug
        self._client: Any = None
        self._lookup: asyncio.Task[Handles] | None = None

    async def handles(self) -> Handles:
        """Kept after the first time: two calls to Modal then, none later."""
        if self._lookup is None or (self._lookup.done() and self._lookup.exception()):
            self._lookup = asyncio.create_task(asyncio.to_thread(self._look_up))
        # shielded: the first caller leaving must not stop the lookup that others wait for
        return await asyncio.shield(self._lookup)

    def forget(self) -> None:
        """Look it up again at the next use: it may have been deployed anew."""
        self._lookup = None

    async def answers(self) -> bool:
        """Whether Modal knows the class at this moment. Starts no container."""
        try:
            await asyncio.to_thread(self._look_up)
        except YapitError:
            return False
        return True

    async def cancel(self, call_id: str) -> None:
        """End a call; its container goes on with others that it serves (`terminate_containers` is off by default)."""
        with self.translated():
            await self._sdk.FunctionCall.from_id(call_id, client=self._client).cancel.aio()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close.aio()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Around calls of the SDK: its errors become ours."""
        try:
            yield
        except Exception as error:
            if (ours := self._translate(error)) is None:
                raise
            if isinstance(error, self._sdk.exception.NotFoundError):
                self.forget()
            raise ours from error

    def _look_up(self) -> Handles:
        """In a thread: these calls of the SDK block."""
        with self.translated():
            client = self._open()
            name = self._name
            found = self._sdk.Cls.from_name(
                name.app, name.name, environment_name=name.environment or None, client=client
            )
            instance = found.hydrate()()
            try:
                web_url = instance.web.get_web_url()
            except self._sdk.exception.NotFoundError:
                web_url = None
            return Handles(client, instance.synthesize, instance.stream, web_url)

    def _open(self) -> Any:
        with _opening:
            if self._client is None:
                if self._server_url:
                    os.environ["MODAL_SERVER_URL"] = self._server_url
                self._client = self._sdk.Client.from_credentials(*self._token)
            return self._client

    def _translate(self, error: Exception) -> YapitError | None:
        """Never with Modal's own words: those of a container's exception may hold paths or secrets."""
        known, slug = self._sdk.exception, self._slug
        if not isinstance(error, YapitError):
            logger.warning("%s: %s: %s", slug, type(error).__name__, error)
        match error:
            case YapitError():
                return None
            case known.AuthError() | known.PermissionDeniedError():
                return UpstreamRefused(f"{slug}: Modal refused the token; check MODAL_TOKEN_ID and MODAL_TOKEN_SECRET")
            case known.NotFoundError():
                return UpstreamRefused(f"{slug}: Modal knows no {self._name}; deploy it, or check the route")
            case known.ResourceExhaustedError():
                return Overloaded(f"{slug}: Modal takes no more calls")
            case known.FunctionTimeoutError():
                return SynthesisTimeout(f"{slug}: the call took longer at Modal than its function may")
            case known.ServiceError() | known.ConnectionError() | known.ClientClosed() | OSError():
                return WorkerUnavailable(f"{slug}: Modal cannot be reached ({type(error).__name__})")
            case known.InvalidError() | known.UnimplementedError() | known.VersionError() | known.RequestSizeError():
                return UpstreamRefused(f"{slug}: Modal refused the call ({type(error).__name__})")
        return UpstreamFailed(f"{slug}: the call failed at Modal ({type(error).__name__})")


def _import_sdk(slug: str) -> Any:
    try:
        import modal
    except ImportError as error:
        logger.warning("Modal's SDK cannot be imported: %s", error)
        raise NotConfigured(f"route {slug}: Modal's SDK is not installed: pip install 'yapit[modal]'") from None
    os.environ["MODAL_PAYLOAD_FORMAT"] = "cbor"
    return modal
