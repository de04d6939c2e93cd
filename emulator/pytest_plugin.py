"""Public pytest fixtures: `emulator`, and `make_emulator` for one's own functions, endpoints or clock.

The emulator runs in the test's process and is reached over ASGI, without a socket:

    async def test_it(emulator):
        async with httpx.AsyncClient(transport=emulator.transport, base_url="http://emulator") as client:
            await client.get("/v2/hibari/health", headers={"Authorization": emulator.api_key})
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from emulator.app import Emulator
from yapit.function_spec import functions_root


class InProcessEmulator(Emulator):
    """An emulator with the transport that reaches it."""

    @property
    def transport(self) -> httpx.ASGITransport:
        return httpx.ASGITransport(self.app)


@pytest_asyncio.fixture
async def make_emulator() -> AsyncIterator[Callable[..., InProcessEmulator]]:
    """Makes emulators from `Emulator`'s arguments; all are closed when the test is over."""
    made: list[InProcessEmulator] = []

    def make(functions_dir: Path | None = None, **arguments: Any) -> InProcessEmulator:
        emulator = InProcessEmulator(functions_dir or functions_root(), **arguments)
        made.append(emulator)
        emulator.open()
        return emulator

    yield make
    for emulator in made:
        await emulator.close()


@pytest.fixture
def emulator(make_emulator: Callable[..., InProcessEmulator]) -> InProcessEmulator:
    """The functions of this project (`FUNCTIONS_DIR`, or `functions/`), each behind an endpoint of its name."""
    return make_emulator()
