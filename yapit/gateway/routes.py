"""`tts_processors.json`: which slug is served by which processor."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated, Any

import pydantic

from yapit.contracts import SLUG_PATTERN
from yapit.errors import ConfigurationError, InvalidRequest

Slug = Annotated[str, pydantic.Field(pattern=SLUG_PATTERN)]


class Route(pydantic.BaseModel):
    """One entry. The fields that a processor class needs besides these are its own (`BaseTTSProcessor.Options`).

    `function` names the folder under `functions/` that the endpoint runs; left out, the slug does. `aliases` are more
    model names, `voice_aliases` more voice names, for clients that have other vendors' names built in.
    `fallback` lists slugs that are tried in turn when this one fails before any audio has left.
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    slug: Slug
    processor: str
    function: str = ""
    max_parallel: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 32
    fallback: list[Slug] = []
    aliases: list[Slug] = []
    voice_aliases: dict[str, str] = {}

    @property
    def function_name(self) -> str:
        return self.function or self.slug

    @property
    def options(self) -> dict[str, Any]:
        """What the entry says beyond the fields above."""
        return dict(self.model_extra or {})


def load_routes(path: Path) -> list[Route]:
    """Read and check the file. Raises `ConfigurationError` naming file, entry and field."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; TTS_PROCESSORS_FILE names the routes") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: not JSON: {error}") from None
    if not isinstance(entries, list):
        raise ConfigurationError(f"{path}: must be a list of entries, found {type(entries).__name__}")
    routes = [_route(path, number, entry) for number, entry in enumerate(entries)]
    _check_names(path, routes)
    return routes


def import_class(dotted_path: str) -> Any:
    """The object at `package.module.Name`. Raises `ConfigurationError`."""
    module_name, _, name = dotted_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"processor {dotted_path!r} cannot be imported: {error}") from None


def _route(path: Path, number: int, entry: object) -> Route:
    try:
        return Route.model_validate(entry)
    except pydantic.ValidationError as error:
        raise ConfigurationError(f"{path}: entry {number}: {InvalidRequest.from_validation(error)}") from None


def _check_names(path: Path, routes: list[Route]) -> None:
    names = [name for route in routes for name in (route.slug, *route.aliases)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"{path}: named twice: {', '.join(twice)}")
    slugs = {route.slug for route in routes}
    for route in routes:
        if unknown := [slug for slug in route.fallback if slug not in slugs]:
            raise ConfigurationError(f"{path}: {route.slug}: fallback to {', '.join(unknown)}, which no entry serves")
