from collections.abc import AsyncIterator, Iterator

import pytest

from emulator.engine.clock import VirtualClock
from tests.conformance import modal_containers, modal_in_process
from tests.conformance.ahead import Ahead
from tests.conformance.backends import EMULATED, Backend, cloud_backend, emulated
from tests.conformance.cloud import Cloud
from tests.conformance.modal_cloud import Cloud as ModalCloud
from tests.conformance.modal_containers import Emulated

APP_MODULE = "tests.conformance.modal_app"


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    cloud = Cloud()
    yield cloud
    await cloud.close()


@pytest.fixture(scope="session")
def modal_emulator() -> Iterator[Emulated]:
    """An emulator to deploy to."""
    with modal_containers.emulated() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def deployed_app(modal_emulator: Emulated) -> Emulated:
    """The same with the tests' app deployed, once for all tests."""
    modal_emulator.deploy(APP_MODULE)
    return modal_emulator


@pytest.fixture(params=["in-process", "container"])
async def modal_cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModalCloud]:
    if request.param == "in-process":
        served = modal_in_process.in_process(monkeypatch)
    else:
        served = modal_containers.client_of(request.getfixturevalue("deployed_app"), monkeypatch)
    async with served as cloud:
        yield cloud


@pytest.fixture
async def virtual_modal(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ModalCloud, VirtualClock]]:
    """With the clock in the test's hands."""
    clock = VirtualClock()
    async with modal_in_process.in_process(monkeypatch, clock) as cloud:
        yield cloud, clock


@pytest.fixture(scope="session")
def emulated_backends(request: pytest.FixtureRequest) -> Iterator[dict[str, tuple[Backend, Ahead]]]:
    """Both, each with its slow tests begun: those of one back end wait while those of the other do."""
    with emulated() as backends:
        begun = {name: (backend, Ahead(backend, request.session.items)) for name, backend in backends.items()}
        yield begun
        for _, ahead in begun.values():
            ahead.close()


@pytest.fixture(
    scope="session", params=[*EMULATED, pytest.param("cloud", marks=pytest.mark.runpod_cloud)], name="backend_and_ahead"
)
def _backend_and_ahead(request: pytest.FixtureRequest) -> Iterator[tuple[Backend, Ahead]]:
    if request.param in EMULATED:
        yield request.getfixturevalue("emulated_backends")[request.param]
    else:
        backend = cloud_backend()
        ahead = Ahead(backend, request.session.items)
        yield backend, ahead
        ahead.close()


@pytest.fixture(scope="session")
def backend(backend_and_ahead: tuple[Backend, Ahead]) -> Backend:
    return backend_and_ahead[0]


@pytest.fixture(scope="session")
def ahead(backend_and_ahead: tuple[Backend, Ahead]) -> Ahead:
    return backend_and_ahead[1]
