from collections.abc import AsyncIterator

import pytest

from tests.conformance import modal_cloud as modal_clouds
from tests.conformance.cloud import Cloud


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    cloud = Cloud()
    yield cloud
    await cloud.close()


@pytest.fixture(params=["in-process"])
async def modal_cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[modal_clouds.Cloud]:
    async with modal_clouds.in_process(monkeypatch) as cloud:
        yield cloud
