"""Nothing of the emulated Modal grows without end: calls, blobs, answers and variants are bounded and expire."""

from __future__ import annotations

from typing import Any, ClassVar

import cbor2
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2
from multidict import MultiDict

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Faults
from emulator.engine.policy import PoolLimits
from emulator.modal import blobs, facts, idempotency, registry
from emulator.modal.addresses import Addresses
from emulator.modal.blobs import BlobStore
from emulator.modal.call import FunctionCall
from emulator.modal.call_store import CallsFull, CallStore
from emulator.modal.control_plane import ControlPlane, default_tokens
from emulator.modal.definitions import Definition, Method, Settings
from emulator.modal.idempotency import Answers
from emulator.modal.ids import Ids
from emulator.modal.intake import ASYNC, SYNC
from emulator.modal.limits import ModalLimits, OverLimit, RateLimiter
from emulator.modal.registry import Function
from emulator.modal.rpc import Caller
from emulator.modal.worker import InstanceWorker

NOBODY = Caller(MultiDict())
WEEK_S = facts.OUTPUT_RETENTION_S


class Echo:
    """Answers its first argument."""

    web_apps: ClassVar[dict[str, Any]] = {}

    @property
    def methods(self) -> dict[str, Any]:
        async def echo(_: object, value: object) -> object:
            return value

        return {"": echo}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Bench:
    """A control plane with the function `echo`, its clock in the test's hands."""

    def __init__(self, limits: ModalLimits | None = None) -> None:
        self.clock = VirtualClock()
        token, proxy_token = default_tokens("key")
        self.plane = ControlPlane(
            token=token, proxy_token=proxy_token, clock=self.clock, faults=Faults(), limits=limits, http_url="http://x"
        )
        echo = Definition(
            app_name="app",
            name="echo",
            is_class=False,
            methods={"": Method()},
            make_worker=lambda _id, _binding: InstanceWorker(Echo, self.plane.blobs),
            settings=Settings(PoolLimits(max_workers=1, concurrency=100)),
        )
        self.plane.define(echo)
        found = self.plane.registry.find("app", "echo")
        assert found is not None
        self.function: Function = found

    def call(self, value: object = "a", *, invocation: Any = SYNC) -> FunctionCall:
        message = api_pb2.FunctionInput(args=cbor2.dumps([[value], {}]), data_format=api_pb2.DATA_FORMAT_CBOR)
        self.plane.intake.admit(self.function, [message], invocation)
        call = self.plane.intake.open(self.function, is_map=False, invocation=invocation)
        self.plane.intake.put(call, 0, message)
        return call


@pytest.fixture
async def bench() -> Any:
    bench = Bench()
    yield bench
    await bench.plane.close()


async def test_a_call_that_was_fetched_is_kept_for_seconds_and_a_spawned_one_for_a_week(bench: Bench) -> None:
    fetched, left, spawned = bench.call(), bench.call(), bench.call(invocation=ASYNC)
    await bench.clock.advance(0)
    bench.plane.calls.fetched(fetched)
    for after_s, kept in (
        (facts.CLEARED_RETENTION_S, [left, spawned]),
        (facts.UNFETCHED_RETENTION_S, [spawned]),
        (WEEK_S, []),
    ):
        await bench.clock.advance(after_s - bench.clock.now())
        assert [call for call in (fetched, left, spawned) if bench.plane.calls.get(call.call_id)] == kept
    assert len(bench.plane.calls) == 0


async def test_an_empty_call_is_not_kept_for_ever(bench: Bench) -> None:
    bench.plane.intake.open(bench.function, is_map=True, invocation=SYNC)
    await bench.clock.advance(facts.UNFETCHED_RETENTION_S)
    assert len(bench.plane.calls) == 0


async def test_over_the_bound_the_calls_go_that_have_been_over_for_longest(bench: Bench) -> None:
    store = CallStore(bench.clock, max_calls=2)
    first, second, third = (_empty(bench, name, store) for name in "abc")
    store.add(first)
    store.add(second)
    store.add(third)
    assert [store.get(call.call_id) for call in (first, second, third)] == [None, second, third]


async def test_no_more_calls_than_may_be_where_all_of_them_run(bench: Bench) -> None:
    store = CallStore(bench.clock, max_calls=1)
    running = _empty(bench, "a", store)
    running.unfinished = 1
    store.add(running)
    with pytest.raises(CallsFull, match="1 calls"):
        store.add(_empty(bench, "b", store))


async def test_bytes_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.plane.calls, "_max_bytes", 1_000)
    over = bench.call(b"\0" * 600)
    await bench.clock.advance(0)
    bench.call(b"\0" * 200)
    assert bench.plane.calls.get(over.call_id) is None
    with pytest.raises(GRPCError, match="waiting or running") as refused:
        bench.call(b"\0" * 900)
    assert refused.value.status is Status.RESOURCE_EXHAUSTED


def _empty(bench: Bench, call_id: str, store: CallStore) -> FunctionCall:
    return FunctionCall(call_id, bench.function, bench.clock, is_map=False, invocation=SYNC, on_change=store.changed)


async def test_too_much_that_is_spawned_is_refused() -> None:
    bench = Bench(ModalLimits(max_spawned=1))
    bench.call(invocation=ASYNC)
    with pytest.raises(GRPCError, match="over 1 spawned inputs"):
        bench.call(invocation=ASYNC)
    await bench.plane.close()


def test_a_bucket_of_inputs_fills_up_again() -> None:
    clock = VirtualClock()
    limiter = RateLimiter(ModalLimits(inputs_per_s=2, burst_s=5), clock)
    limiter.take("fu-1", 10)
    limiter.take("fu-2", 10)
    with pytest.raises(OverLimit, match="2 inputs per second"):
        limiter.take("fu-1", 1)


async def test_blobs_are_bounded_and_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "MAX_TOTAL_BYTES", 10)
    clock = VirtualClock()
    store = BlobStore(clock, Ids(), Addresses(http="http://x"))
    first, second = store.put(b"12345"), store.put(b"12345")
    third = store.put(b"1")
    assert [store.get(blob_id) for blob_id in (first, second, third)] == [None, b"12345", b"1"]
    await clock.advance(WEEK_S)
    store.put(b"")
    assert len(store) == 1


def test_without_an_address_there_are_no_blobs() -> None:
    store = BlobStore(VirtualClock(), Ids(), Addresses())
    with pytest.raises(GRPCError, match="base_url"):
        store.create(api_pb2.BlobCreateRequest(content_length=1), NOBODY)


async def test_answers_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_ANSWERS", 2)
    clock = VirtualClock()
    answers = Answers(clock)
    for key in "abc":
        answers.keep("FunctionMap", key, key)
    assert [answers.get("FunctionMap", key) for key in "abc"] == [None, "b", "c"]
    assert answers.get("BlobCreate", "c") is None
    await clock.advance(idempotency.RETENTION_S + 1)
    assert (answers.get("FunctionMap", "c"), len(answers)) == (None, 0)


async def test_variants_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MAX_VARIANTS", 1)
    bind = bench.plane.registry.bind
    first = bind(bench.function, b"", api_pb2.FunctionOptions(timeout_secs=5))
    assert bind(bench.function, b"", api_pb2.FunctionOptions(timeout_secs=5)) is first
    with pytest.raises(registry.TooManyVariants):
        bind(bench.function, b"", api_pb2.FunctionOptions(timeout_secs=6))
