"""The gateway: one OpenAI-compatible API over functions at any provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from yapit import function_spec
from yapit.gateway import middleware
from yapit.gateway.api import errors, health, models, speech
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.manager import ProcessorManager
from yapit.gateway.registry import SpecRegistry
from yapit.gateway.routes import load_routes
from yapit.gateway.settings import Settings


def create_app(settings: Settings | None = None, *, transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """The gateway's ASGI app. `transport` replaces the network towards providers.

    Raises `ConfigurationError` where a route, a function or a setting is wrong.
    """
    settings = settings or Settings()
    routes = load_routes(settings.tts_processors_file)
    specs = function_spec.discover(settings.functions_dir)
    processors = ProcessorManager(routes, Context(settings, transport))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await processors.close()

    app = FastAPI(title="Yapit", lifespan=lifespan)
    app.state.settings = settings
    app.state.registry = SpecRegistry(routes, specs)
    app.state.processors = processors
    for module in (speech, models, health):
        app.include_router(module.router)
    errors.install(app)
    app.openapi = _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(middleware.RequestMiddleware, api_keys=settings.api_keys)
    return app


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        document = generated()
        document.setdefault("components", {}).setdefault("schemas", {}).update(speech.components())
        return document

    return openapi
