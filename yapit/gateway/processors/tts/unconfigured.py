"""In place of a processor whose provider has no account here: its route stays listed, and says what it lacks.

So the committed routes may name every provider, and a gateway with an account at one of them serves that one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from yapit.contracts import Event, SynthesisJob
from yapit.errors import NotConfigured
from yapit.gateway.processors.tts import base
from yapit.gateway.routes import Route


class UnconfiguredProcessor(base.BaseTTSProcessor):
    """Refuses every job with `error`."""

    def __init__(self, route: Route, context: base.Context, error: NotConfigured) -> None:
        super().__init__(route, context)
        self.error = error

    async def _events(self, job: SynthesisJob) -> AsyncGenerator[Event, None]:  # noqa: ARG002 - it is refused
        raise NotConfigured(self.error.message)
        yield

    async def is_ready(self) -> bool:
        return False

    @classmethod
    def _parse(cls, route: Route) -> Any:
        """The fields are those of the class in whose place it stands, which has read them."""
        return route.options
