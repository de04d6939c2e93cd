from collections.abc import AsyncIterator, Iterator

import pytest

from emulator.engine.clock import VirtualClock
from tests.conformance import modal_account, modal_emulated, modal_in_process
from tests.conformance.ahead import Ahead
from tests.conformance.backends import EMULATED, Backend, cloud_backend, emulated
from tests.conformance.cloud import Cloud
from tests.conformance.modal_cloud import Cloud as ModalCloud
from tests.conformance.modal_emulated import Emulated, RemoteClock

APP_MODULE = "tests.conformance.modal_app"


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    cloud = Cloud()
    yield cloud
    await cloud.close()


@pytest.fixture(scope="session")
def modal_emulator() -> Iterator[Emulated]:
    """An emulator to deploy to."""
    with modal_emulated.emulated() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def deployed_app(modal_emulator: Emulated) -> Emulated:
    """The same with the tests' app deployed, once for all tests."""
    modal_emulator.deploy(APP_MODULE)
    return modal_emulator


@pytest.fixture(scope="session")
def virtual_app() -> Iterator[Emulated]:
    """Another one, whose clock stands until a test moves it."""
    with modal_emulated.emulated("virtual") as emulator:
        emulator.deploy(APP_MODULE)
        yield emulator


@pytest.fixture(scope="session")
def defined_app() -> Iterator[Emulated]:
    """With the tests' app in its own process, for SDKs whose messages are not those of the emulator."""
    with modal_emulated.emulated("defined") as emulator:
        yield emulator


@pytest.fixture(scope="session")
def virtual_defined_app() -> Iterator[Emulated]:
    with modal_emulated.emulated("defined", "virtual") as emulator:
        yield emulator


@pytest.fixture(params=["in-process", "container", pytest.param("cloud", marks=pytest.mark.modal_cloud)])
async def modal_cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModalCloud]:
    if request.param == "cloud":
        served = modal_account.cloud(request, monkeypatch)
    elif request.param == "container":
        served = request.getfixturevalue("deployed_app").cloud(monkeypatch)
    elif modal_emulated.runs_elsewhere():
        served = request.getfixturevalue("defined_app").cloud(monkeypatch)
    else:
        served = modal_in_process.in_process(monkeypatch)
    async with served as cloud:
        yield cloud


@pytest.fixture(params=["in-process", "container"])
async def virtual_modal(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ModalCloud, VirtualClock | RemoteClock]]:
    """With the clock in the test's hands."""
    if request.param == "in-process" and not modal_emulated.runs_elsewhere():
        clock = VirtualClock()
        async with modal_in_process.in_process(monkeypatch, clock) as cloud:
            yield cloud, clock
        return
    emulator = request.getfixturevalue("virtual_app" if request.param == "container" else "virtual_defined_app")
    async with emulator.cloud(monkeypatch) as cloud:
        yield cloud, emulator.clock


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
