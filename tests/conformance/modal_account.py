"""Modal itself, with the tests' app deployed there: `modal deploy -m tests.conformance.modal_app`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import modal
import pytest

from tests.conformance.modal_cloud import Cloud, close

TOKEN_VARIABLES = ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET")
PROXY_VARIABLES = ("MODAL_KEY", "MODAL_SECRET")


class OnlyTheEmulator:
    """In place of what a test looks up in the emulator, or does to it."""

    def __getattr__(self, name: str) -> NoReturn:
        pytest.skip(f"only the emulator has {name}")


@asynccontextmanager
async def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    """Skips a test where no account is named, and one whose files are not there in the cloud's containers."""
    monkeypatch.setenv("MODAL_PAYLOAD_FORMAT", "cbor")  # all that the emulator offers
    token_id, token_secret = (os.environ.get(name, "") for name in TOKEN_VARIABLES)
    if not (token_id and token_secret):
        pytest.skip(f"{' and '.join(TOKEN_VARIABLES)} are not set")
    if "tmp_path" in request.fixturenames:
        pytest.skip("the test and the containers share files, which they do not in the cloud")
    key, secret = (os.environ.get(name, "") for name in PROXY_VARIABLES)
    here: Any = OnlyTheEmulator()
    client = await modal.Client.from_credentials.aio(token_id, token_secret)
    yield Cloud(client, {"Modal-Key": key, "Modal-Secret": secret}, here, here)
    await close(client)
