from collections.abc import AsyncIterator

import pytest

from tests.conformance import modal_in_process
from tests.conformance.cloud import Cloud
from tests.conformance.modal_cloud import Cloud as ModalCloud


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    cloud = Cloud()
    yield cloud
    await cloud.close()


@pytest.fixture(params=["in-process"])
async def modal_cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModalCloud]:
    async with modal_in_process.in_process(monkeypatch) as cloud:
        yield cloud
