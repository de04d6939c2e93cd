"""The public `emulator` fixture with Modal's SDK, as docs/emulator.md shows it."""

from __future__ import annotations

import modal
import pytest

from emulator.pytest_plugin import InProcessEmulator


async def test_the_fixture_serves_modals_sdk(emulator: InProcessEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_SERVER_URL", await emulator.modal.listen())
    client = await modal.Client.from_credentials.aio("ak-emulator", emulator.api_key)
    tts = modal.Cls.from_name("yapit-espeak", "TTS", client=client)()
    events = await tts.synthesize.remote.aio({"text": "Hello there.", "voice": "en"})
    assert [event["type"] for event in events][-1:] == ["done"], events
    await client.close.aio()
