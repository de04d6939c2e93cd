"""What the routes file says now: read again at the first request after it has changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from yapit import function_spec
from yapit.errors import ConfigurationError
from yapit.gateway.processors.tts.manager import ProcessorManager
from yapit.gateway.registry import SpecRegistry
from yapit.gateway.routes import load_routes
from yapit.gateway.settings import Settings

logger = logging.getLogger(__name__)

Version = tuple[int, int, int]


class LiveRoutes:
    """Registry and processors of `tts_processors.json`. Both change at once, between two requests."""

    def __init__(self, settings: Settings, processors: ProcessorManager) -> None:
        """Raises `ConfigurationError` where a route, a function or a setting is wrong."""
        self._settings, self.processors = settings, processors
        self._path = os.fspath(settings.tts_processors_file)
        self._version = self._found()
        self.registry = self._load()

    def refresh(self) -> None:
        """Look whether the file has changed. One that cannot be served is logged, and what was served stays."""
        version = self._found()
        if version == self._version:
            return
        self._version = version
        try:
            self.registry = self._load()
        except ConfigurationError as error:
            logger.error("the routes stay as they were: %s", error)
        else:
            logger.info("%s has changed: routes read again", self._path)

    def _load(self) -> SpecRegistry:
        routes = load_routes(self._settings.tts_processors_file)
        registry = SpecRegistry(routes, function_spec.discover(self._settings.functions_dir))
        self.processors.replace(routes)
        return registry

    def _found(self) -> Version | None:
        """A file replaced within a tick of the clock has another inode."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


class RefreshMiddleware:
    """Calls `refresh` before each request: a few microseconds, and no request meets routes of yesterday."""

    def __init__(self, app: ASGIApp, *, refresh: Callable[[], None]) -> None:
        self._app, self._refresh = app, refresh

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._refresh()
        await self._app(scope, receive, send)
