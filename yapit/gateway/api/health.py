"""`/healthz`: the process lives. `/readyz`: the routes' providers answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from yapit.gateway.processors.tts.manager import ProcessorManager

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, Any]:
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """200 if every route's provider answers, else 503 with those that do not. `unconfigured` are the routes of
    providers that have no account here, and what they lack."""
    processors: ProcessorManager = request.app.state.processors
    ready = await processors.ready()
    down = [slug for slug, is_ready in ready.items() if not is_ready]
    body = {"status": "unavailable" if down else "ready", "models": ready, "unconfigured": processors.unconfigured()}
    return JSONResponse(body, status_code=503 if down else 200)
