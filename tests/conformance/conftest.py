from collections.abc import AsyncIterator

import pytest

from tests.conformance.cloud import Cloud


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    cloud = Cloud()
    yield cloud
    await cloud.close()
