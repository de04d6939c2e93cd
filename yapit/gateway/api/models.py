"""`GET /v1/models` and `GET /v1/audio/voices`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from yapit.gateway.registry import Model

router = APIRouter()

CREATED = 1_767_225_600  # 2026-01-01: OpenAI's field says when a model was made, which no function does


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """Every model by slug, then every alias."""
    models = await request.app.state.routes.registry.models()
    return {
        "object": "list",
        "data": [_entry(name, model) for model in models for name in (model.slug, *model.aliases)],
    }


@router.get("/v1/models/{name}")
async def retrieve_model(request: Request, name: str) -> dict[str, Any]:
    return _entry(name, await request.app.state.routes.registry.model(name))


@router.get("/v1/audio/voices")
async def list_voices(request: Request, model: str | None = None) -> dict[str, Any]:
    """The voices of one model, or of all."""
    registry = request.app.state.routes.registry
    models: list[Model] = [await registry.model(model)] if model else await registry.models()
    return {
        "voices": [
            {"id": voice.slug, "name": voice.name, "language": voice.language, "gender": voice.gender, "model": m.slug}
            for m in models
            for voice in m.voices
        ]
    }


def _entry(name: str, model: Model) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "yapit",
        "description": model.spec.display_name,
        "languages": model.spec.languages,
        "parameters": model.spec.parameters,
    }
