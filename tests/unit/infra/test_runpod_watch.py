"""What is made of an endpoint's workers while it is tried."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable

import httpx
import pytest

from infra.runpod.management import ManagementClient
from infra.runpod.watch import CRASHES, LOOK_S, WorkerWatch
from yapit.errors import DeploymentFailed


def watch(*looks: Iterable[tuple[str, str]], log: str = "") -> WorkerWatch:
    """Of an endpoint whose workers, with their states, are these at each look; the last stays."""
    left = [list(look) for look in looks]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/logs"):
            data = json.dumps({"source": "container", "line": log, "ts": "x"})
            return httpx.Response(200, text=f"data: {data}\n\n" if log else "")
        now = left.pop(0) if len(left) > 1 else left[0]
        workers = [{"id": name.strip("*"), "status": status, "isStale": "*" in name} for name, status in now]
        return httpx.Response(200, json={"workers": workers})

    return WorkerWatch(client(answer), "e", itertools.count(0, LOOK_S).__next__)


def client(answer: Callable[[httpx.Request], httpx.Response]) -> ManagementClient:
    return ManagementClient("https://x/v2", "k", transport=httpx.MockTransport(answer))


def test_it_asks_every_few_seconds_and_takes_no_answer_for_nothing() -> None:
    asked: list[float] = []
    now_s = 0.0

    def answer(_: httpx.Request) -> httpx.Response:
        asked.append(now_s)
        return httpx.Response(429, json={"detail": "slow down"})

    watched = WorkerWatch(client(answer), "e", lambda: now_s)
    for _ in range(12):
        watched.look()
        now_s += 1.0
    assert asked == [0.0, 5.0, 10.0]


def test_what_changes_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    watched = watch([], [("a", "INITIALIZING")], [("a", "INITIALIZING")], [("a", "RUNNING"), ("b", "INITIALIZING")])
    for _ in range(4):
        watched.look()
    assert capsys.readouterr().err.splitlines() == [
        "workers: none yet", "workers: 1 initializing", "workers: 1 initializing, 1 running",
    ]  # fmt: skip


def test_workers_that_crash_one_after_the_other_are_a_loop() -> None:
    looks = [[(f"w{number}", "UNHEALTHY")] for number in range(CRASHES)]
    watched = watch(*looks, log="out of memory")
    for _ in range(CRASHES - 1):
        watched.look()
    with pytest.raises(DeploymentFailed, match="3 workers crashed one after the other"):
        watched.look()
    assert watched.account() == "the log of worker w2:\n  out of memory"


def test_the_same_crash_counts_once_and_those_of_an_earlier_release_not_at_all() -> None:
    watched = watch([("w1", "UNHEALTHY"), ("w2*", "UNHEALTHY"), ("w3*", "UNHEALTHY"), ("w4*", "UNHEALTHY")])
    for _ in range(5):
        watched.look()


@pytest.mark.parametrize(
    ("workers", "log", "said"),
    [
        ([("a", "THROTTLED"), ("b", "THROTTLED")], "", "name more gpu_pools"),
        ([("a", "INITIALIZING"), ("b", "THROTTLED")], "pulling", "the log of worker b:\n  pulling"),
        ([("a", "IDLE")], "", "(empty)"),
        ([], "", "no worker that could say why"),
    ],
)
def test_why_nothing_was_heard(workers: list[tuple[str, str]], log: str, said: str) -> None:
    assert said in watch(workers, log=log).account()
