"""The gateway: one OpenAI-compatible API over functions at any provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from yapit.gateway import middleware
from yapit.gateway.api import errors, health, models, speech
from yapit.gateway.live_routes import LiveRoutes, RefreshMiddleware
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.manager import ProcessorManager
from yapit.gateway.settings import Settings


def create_app(settings: Settings | None = None, *, transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """The gateway's ASGI app. `transport` replaces the network towards providers.

    Raises `ConfigurationError` where a route, a function or a setting is wrong.
    """
    settings = settings or Settings()
    processors = ProcessorManager([], Context(settings, transport))
    routes = LiveRoutes(settings, processors)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await processors.close()

    app = FastAPI(title="Yapit", lifespan=lifespan)
    app.state.settings = settings
    app.state.routes = routes
    app.state.processors = processors
    for module in (speech, models, health):
        app.include_router(module.router)
    errors.install(app)
    app.openapi = _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(middleware.RequestMiddleware, api_keys=settings.api_keys)
    app.add_middleware(RefreshMiddleware, refresh=routes.refresh)
    return app


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        document = generated()
        document.setdefault("components", {}).setdefault("schemas", {}).update(speech.components())
        return document

    return openapi
