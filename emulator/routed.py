"""RunPod endpoints that `tts_processors.json` names: there, while the file names them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from emulator.endpoints import Endpoints
from emulator.runpod.endpoint import EndpointType
from yapit.errors import ConfigurationError

logger = logging.getLogger(__name__)

Named = dict[str, tuple[str, EndpointType]]
"""Endpoint id → function, type."""


class RoutedEndpoints:
    """Raises `ConfigurationError` for a file that cannot be read or names a function that is not there."""

    def __init__(self, endpoints: Endpoints, routes_file: Path) -> None:
        self._endpoints, self._path = endpoints, routes_file
        self._added: Named = {}
        self._version = self._found()
        self._apply()

    def refresh(self) -> None:
        """Take over the file if it has changed. What is wrong with it is logged; the endpoints then stay."""
        if (version := self._found()) == self._version:
            return
        self._version = version
        try:
            self._apply()
        except ConfigurationError as error:
            logger.error("endpoints stay as they were: %s", error)

    def _apply(self) -> None:
        named = read_named(self._path)
        for endpoint_id, (function, _) in named.items():
            self._endpoints.spec(endpoint_id, function)  # before anything changes
        for endpoint_id in [known for known, what in self._added.items() if named.get(known) != what]:
            del self._added[endpoint_id]
            self._endpoints.end(self._endpoints.take(endpoint_id))
        for endpoint_id, (function, endpoint_type) in named.items():
            if endpoint_id not in self._endpoints:  # others are deployed, or named after their function
                self._endpoints.add(endpoint_id, function, endpoint_type)
                self._added[endpoint_id] = (function, endpoint_type)

    def _found(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


class Refreshing:
    """Middleware: calls `refresh` before each request."""

    def __init__(self, app: ASGIApp, refresh: Callable[[], None]) -> None:
        self._app, self._refresh = app, refresh

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._refresh()
        await self._app(scope, receive, send)


def read_named(routes_file: Path) -> Named:
    """The endpoints that the file names; none where there is no file. Raises `ConfigurationError`."""
    try:
        entries = json.loads(routes_file.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise TypeError(type(entries).__name__)
        return {
            entry["runpod_endpoint_id"]: (
                entry.get("function") or entry["slug"],
                EndpointType(entry.get("endpoint_type", "queue").upper()),
            )
            for entry in entries
            if "runpod_endpoint_id" in entry
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"{routes_file}: not a list of routes: {error!r}") from None
