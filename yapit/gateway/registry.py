"""Which models and voices there are, as users see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from yapit.contracts import SynthesisParameters
from yapit.errors import ConfigurationError, UnknownModel
from yapit.function_spec import FunctionSpec, Voice
from yapit.gateway.routes import Route


@dataclass(frozen=True, slots=True)
class Model:
    """A slug with what it serves."""

    slug: str
    spec: FunctionSpec
    aliases: tuple[str, ...]
    voice_aliases: Mapping[str, str]

    @property
    def voices(self) -> list[Voice]:
        return self.spec.voices

    def voice_slug(self, name: str) -> str:
        """The voice that `name` means: itself, or what it is an alias of."""
        known = {voice.slug for voice in self.spec.voices}
        return name if name in known else self.voice_aliases.get(name, name)

    def check(self, job: SynthesisParameters) -> None:
        """Refuse here what every worker would refuse. Raises `UnknownVoice` or `InvalidRequest`."""
        self.spec.adapter_parameters(job)


class Registry(Protocol):
    async def models(self) -> list[Model]:
        """All of them, in a stable order."""

    async def model(self, name: str) -> Model:
        """The model of that slug or alias. Raises `UnknownModel`."""


class SpecRegistry:
    """Models and voices straight from the function specs."""

    def __init__(self, routes: Iterable[Route], specs: Mapping[str, FunctionSpec]) -> None:
        self._models = [_model(route, specs) for route in routes]
        self._by_name = {name: model for model in self._models for name in (model.slug, *model.aliases)}

    async def models(self) -> list[Model]:
        return self._models

    async def model(self, name: str) -> Model:
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name)
            raise UnknownModel(f"The model {name[:80]!r} does not exist; there is {known}", param="model") from None


def _model(route: Route, specs: Mapping[str, FunctionSpec]) -> Model:
    spec = specs.get(route.function_name)
    if spec is None:
        raise ConfigurationError(
            f"route {route.slug}: there is no function {route.function_name!r} (found {', '.join(specs) or 'none'}); "
            'set "function" to the folder that the endpoint runs'
        )
    voices = {voice.slug for voice in spec.voices}
    if unknown := sorted(set(route.voice_aliases.values()) - voices):
        raise ConfigurationError(
            f"route {route.slug}: voice_aliases name {', '.join(unknown)}, not voices of {spec.name}"
        )
    return Model(route.slug, spec, tuple(route.aliases), route.voice_aliases)
