"""Items 31 to 37 of the checklist: deploys, and what happens in the containers of what was deployed."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import modal
import pytest
from modal_proto import api_pb2

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Effect, FaultRule
from emulator.modal import facts
from tests.conformance import modal_hooks
from tests.conformance.modal_cloud import Cloud
from tests.conformance.modal_emulated import Emulated
from tests.conformance.modal_raw import raw
from tests.conformance.modal_served import appeared, is_there


@pytest.fixture(scope="session")
def deploy_output(modal_emulator: Emulated) -> str:
    return modal_emulator.deploy(modal_hooks.__name__)


@pytest.fixture
def hooks_app(modal_emulator: Emulated, deploy_output: str) -> Emulated:
    """With `modal_hooks` deployed, once for all tests."""
    return modal_emulator


@pytest.fixture
async def hooks(hooks_app: Emulated, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hooks]:
    async with hooks_app.cloud(monkeypatch) as cloud:
        yield Hooks(cloud)


class Hooks:
    """The functions and classes of `modal_hooks`."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def cls(self, name: str) -> Any:
        return modal.Cls.from_name(modal_hooks.APP, name, client=self.cloud.client)()

    def function(self, name: str) -> Any:
        return modal.Function.from_name(modal_hooks.APP, name, client=self.cloud.client)


def small_app(version: str, name: str = "small", **options: Any) -> modal.App:
    """A function and a class that tell a version; their code travels with the deploy."""
    app = modal.App(name)

    @app.function(serialized=True, name="version", **options)
    def function() -> list[str | None]:
        return [version, os.environ.get("KEY")]

    class Thing:
        @modal.method()
        def version(self) -> str:
            return version

    app.cls(serialized=True)(Thing)
    return app


def test_31_modal_deploy_shows_what_it_made(deploy_output: str) -> None:
    assert "App deployed" in deploy_output
    assert "created function snapped.*" in deploy_output.lower()


async def test_31_a_redeploy_keeps_ids_and_serves_the_new_code(hooks: Hooks) -> None:
    client = hooks.cloud.client
    version = modal.Function.from_name("small", "version", client=client)
    thing = modal.Cls.from_name("small", "Thing", client=client)

    async def ids() -> list[str]:
        return [(await version.hydrate.aio()).object_id, (await thing.hydrate.aio()).object_id]

    first = await small_app("one").deploy.aio(client=client)
    known = await ids()
    assert await version.remote.aio() == ["one", None]
    again = await small_app("two").deploy.aio(client=client)
    assert "AppGetLayout" in hooks.cloud.rpcs
    assert (again.app_id, await ids()) == (first.app_id, known)
    assert await version.remote.aio() == ["two", None]


async def test_32_a_missing_secret_or_key_fails_the_deploy(hooks: Hooks) -> None:
    client, name = hooks.cloud.client, "token"

    def app(key: str) -> modal.App:
        return small_app("three", secrets=[modal.Secret.from_name(name, required_keys=[key])])

    with pytest.raises(modal.exception.NotFoundError, match="there is no secret 'token'"):
        await app("KEY").deploy.aio(client=client)
    await modal.Secret.objects.create.aio(name, {"KEY": "value"}, client=client)
    with pytest.raises(modal.exception.NotFoundError, match="secret 'token' has no OTHER; it has KEY"):
        await app("OTHER").deploy.aio(client=client)
    await app("KEY").deploy.aio(client=client)
    assert await modal.Function.from_name("small", "version", client=client).remote.aio() == ["three", "value"]


async def test_33_hooks_run_around_the_snapshot_and_the_client_outlives_it(hooks: Hooks) -> None:
    what = await hooks.cls("Snapped").what.remote.aio()
    assert what["log"] == ["load", 2, "wake", 4]
    assert what["task"].startswith("ta-")


async def test_34_a_failing_enter_is_the_callers_error(modal_cloud: Cloud) -> None:
    with pytest.raises(modal.exception.RemoteError, match=r"ValueError\('no weights'\)"):
        await modal_cloud.cls("Broken")().echo.remote.aio()


async def test_35_the_exit_hook_runs_when_a_container_is_not_needed_any_more(
    virtual_modal: tuple[Cloud, VirtualClock], tmp_path: Path
) -> None:
    cloud, clock = virtual_modal
    note = str(tmp_path / "note")
    await cloud.cls("Leaving")().note_leave.remote.aio(note)
    await clock.advance(59)
    assert not is_there(f"{note}.left")
    await clock.advance(2)
    await appeared(f"{note}.left")


async def test_36_inputs_come_in_batches(hooks: Hooks) -> None:
    batched = hooks.function("batched")
    await batched.remote.aio(0)  # a cold start would have them all waiting
    answers = await asyncio.gather(*(batched.remote.aio(number) for number in range(5)))
    assert [answer["number"] for answer in answers] == list(range(5))
    assert Counter(answer["batch"] for answer in answers) == {3: 3, 2: 2}


async def test_37_an_input_waits_while_the_container_has_as_many_as_it_may(modal_cloud: Cloud, tmp_path: Path) -> None:
    single, first, second = modal_cloud.cls("Single")(), tmp_path / "first", tmp_path / "second"
    calls = [await single.hold.spawn.aio(str(gate)) for gate in (first, second)]
    await appeared(f"{first}.started")
    await modal_cloud.cls()().echo.remote.aio()  # time enough for another input to begin
    assert not is_there(f"{second}.started")
    first.touch()
    await appeared(f"{second}.started")
    second.touch()
    assert [await call.get.aio() for call in calls] == ["held", "held"]


async def test_37_no_container_has_more_inputs_than_it_may(hooks: Hooks) -> None:
    crowded = hooks.cls("Crowded")
    answers = await asyncio.gather(*(crowded.crowd.remote.aio() for _ in range(12)))
    assert max(answer["most"] for answer in answers) == 2
    assert len({answer["pid"] for answer in answers}) <= 2


async def test_a_slow_snapshot_is_waited_for(hooks: Hooks) -> None:
    delay = FaultRule(Effect.LATENCY, match="RPC ContainerCheckpoint", count=1, value=0.3)
    hooks.cloud.faults.set([delay])
    variant = modal.Cls.from_name(modal_hooks.APP, "Snapped", client=hooks.cloud.client).with_options(timeout=77)
    begun_at = time.monotonic()
    assert (await variant().what.remote.aio())["log"] == ["load", 2, "wake", 4]
    assert time.monotonic() - begun_at > delay.value


async def test_an_output_that_is_lost_is_made_again_after_a_silence(
    virtual_modal: tuple[Cloud, VirtualClock], tmp_path: Path
) -> None:
    cloud, clock = virtual_modal
    alone, tries = cloud.cls("Alone")(), tmp_path / "tries"
    cloud.faults.set([FaultRule(Effect.LOSE_RESULT, match="modal/*", count=1)])
    calling = asyncio.create_task(alone.try_again.remote.aio(str(tries), 0))
    await appeared(f"{tries}.1")
    await alone.echo.remote.aio()  # the first try has ended by now
    await clock.advance(facts.SILENCE_S)
    await appeared(f"{tries}.2")
    await calling


async def test_an_images_environment_and_a_secret_reach_the_container_and_nothing_else(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEVER_BROUGHT", "by an image")
    found = await hooks.function("environment").remote.aio()
    assert found.pop("folder").endswith("/srv")
    assert found == {"GREETING": "hello", "KEY": "of the secret", "MODAL_TOKEN_SECRET": None, "NEVER_BROUGHT": None}


async def test_what_a_container_says_can_be_read(hooks: Hooks, hooks_app: Emulated) -> None:
    await hooks.function("tell").remote.aio("something was said")
    done = await asyncio.to_thread(hooks_app.modal, "app", "logs", modal_hooks.APP)
    assert (done.returncode, "something was said" in done.stdout.splitlines()) == (0, True), done.stdout


async def test_a_container_that_dies_takes_the_call_with_it_the_second_time(hooks: Hooks) -> None:
    with pytest.raises(modal.exception.InternalFailure, match=r"(?s)code 137.*out of memory, say"):
        await hooks.function("die").remote.aio()


async def test_a_stopped_app_is_gone(hooks: Hooks) -> None:
    client = hooks.cloud.client
    await small_app("four", "stopped").deploy.aio(client=client)
    assert await modal.Function.from_name("stopped", "version", client=client).remote.aio() == ["four", None]
    stopped = await modal.App.lookup.aio("stopped", client=client)
    async with raw(hooks.cloud) as rpcs:
        await rpcs.call("AppStop", api_pb2.AppStopRequest(app_id=stopped.app_id))
    with pytest.raises(modal.exception.NotFoundError, match="there is no app 'stopped'"):
        await modal.Function.from_name("stopped", "version", client=client).remote.aio()
