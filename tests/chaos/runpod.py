"""`make chaos-runpod`: thousands of jobs through an emulated endpoint whose workers die, whose connections break and
whose API fails, by seeded chance. Every job must reach its client whole and once, and end; memory must stay flat.

A client here does what a caller of the gateway would: it asks again where it is told of an error that may pass.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import sys
import time
import weakref
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from emulator.app import Emulator
from emulator.engine.clock import Clock
from emulator.engine.faults import Effect, FaultRule
from emulator.engine.jobs import Job
from emulator.engine.store import JobStore
from emulator.server import Server
from tests.adapters import tone
from tests.bench.report import merged, table
from tests.conftest import API_KEY, TEST_FUNCTIONS, serve
from yapit.contracts import AudioEvent, DoneEvent, SynthesisJob, SynthesisParameters
from yapit.errors import YapitError
from yapit.gateway.processors.tts.base import Context
from yapit.gateway.processors.tts.runpod import RunpodProcessor
from yapit.gateway.routes import Route
from yapit.gateway.settings import Settings

KEPT_JOBS = 500
"""Finished jobs that the endpoint keeps: so few that memory shows what leaks, and what a client comes back for is
there."""
MAX_TRIES = 20
DEADLINE_S = 60.0
SAMPLES = 10
WARM_UP = 0.5
"""The part of a run after which memory must not grow: by then the endpoint keeps all the jobs that it may, and its
workers' log is full."""
MAX_GROWTH = 0.05
API = "* /v2/tone/[rsc]*"  # run, status, stream, cancel: what a client calls

RULES = (
    FaultRule(Effect.STATUS, API, probability=0.01, value=500),
    FaultRule(Effect.STATUS, API, probability=0.01, value=503),
    FaultRule(Effect.STATUS, API, probability=0.01, value=429),
    FaultRule(Effect.STATUS_AFTER, API, probability=0.01, value=502),
    FaultRule(Effect.LATENCY, API, probability=0.01, value=0.02),
    FaultRule(Effect.DROP_BEFORE, API, probability=0.01),
    FaultRule(Effect.DROP_AFTER, API, probability=0.01),
    FaultRule(Effect.TRUNCATE, API, probability=0.01),
    FaultRule(Effect.KILL_BEFORE, probability=0.005),
    FaultRule(Effect.KILL_DURING, probability=0.005),
    FaultRule(Effect.KILL_AFTER, probability=0.005),
    FaultRule(Effect.FAIL_DURING, probability=0.005),
    FaultRule(Effect.OUT_OF_MEMORY, probability=0.005),
    FaultRule(Effect.DUPLICATE, probability=0.01),
    FaultRule(Effect.LOSE_RESULT, probability=0.002),
    FaultRule(Effect.STUCK, probability=0.005, value=0.2),
    FaultRule(Effect.THROTTLE, probability=0.1, value=0.1),
    FaultRule(Effect.SLOW_START, probability=0.2, value=0.1),
)


class CountedJobs(JobStore):
    """Counts the jobs that the endpoint took, and knows those that anything still holds."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, max_jobs=KEPT_JOBS)
        self.taken = 0
        self.alive: weakref.WeakSet[Job] = weakref.WeakSet()

    def add(self, job: Job, **options: Any) -> None:
        super().add(job, **options)
        self.taken += 1
        self.alive.add(job)


@dataclass
class Sample:
    at_job: int
    rss_mib: float
    objects: int

    @classmethod
    def take(cls, at_job: int) -> Sample:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(at_job, pages * 4096 / 2**20, len(gc.get_objects()))


@dataclass
class Report:
    jobs: int
    whole: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    struck: dict[str, int] = field(default_factory=dict)
    taken: int = 0
    unfinished: int = 0
    leaked: int = 0
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What must not be; nothing if all is well."""
        found = [f"wrong audio: {text}" for text in self.wrong] + [f"lost: {text}" for text in self.lost]
        if self.unfinished:
            found.append(f"{self.unfinished} jobs of {self.taken} never ended")
        if self.leaked:
            found.append(f"{self.leaked} jobs are held that the endpoint has forgotten")
        return [*found, *filter(None, (self._growth("rss_mib"), self._growth("objects")))]

    def _growth(self, what: str) -> str | None:
        values = [getattr(s, what) for s in self.samples if s.at_job >= self.jobs * WARM_UP]
        if len(values) < 2 or values[-1] <= values[0] * (1 + MAX_GROWTH):
            return None
        return f"{what} grew from {values[0]:.0f} to {values[-1]:.0f}"

    def section(self) -> str:
        """For docs/benchmarks.md."""
        memory = [[s.at_job, f"{s.rss_mib:.0f}", s.objects] for s in self.samples]
        faults = ", ".join(f"{name} {count}" for name, count in self.struck.items())
        return "\n\n".join(
            [
                "## RunPod under chaos",
                f"{self.jobs:,} jobs through one emulated endpoint with handlers in its process, over sockets, by "
                f"`RunpodProcessor` (`make chaos-runpod`). Faults: {faults}.",
                f"{self.whole:,} arrived whole and once, {len(self.wrong)} wrong, {len(self.lost)} not at all. "
                f"{sum(self.told.values())} times a client was told of an error that may pass, and asked again. The "
                f"endpoint took {self.taken:,} jobs, of which {self.unfinished} did not end. Clients and emulator are "
                "one process; this is its memory:",
                table(["after jobs", "MiB", "objects"], memory),
            ]
        )

    def __str__(self) -> str:
        lines = [
            f"{self.jobs} jobs in {self.seconds:.0f} s ({self.jobs / self.seconds:.0f}/s): {self.whole} whole, "
            f"{len(self.wrong)} wrong, {len(self.lost)} lost",
            f"errors told, and tried again: {dict(self.told)}",
            f"the endpoint took {self.taken} jobs: {dict(self.ended)}, {self.unfinished} unfinished, "
            f"{self.leaked} leaked",
            f"faults: {self.struck}",
            *(f"after {s.at_job:6} jobs: {s.rss_mib:6.1f} MiB, {s.objects} objects" for s in self.samples),
        ]
        return "\n".join([*lines, *(f"PROBLEM {problem}" for problem in self.problems)])


class Chaos:
    """`emulator` must be served at `url`, or reached by `transport`; its rules are replaced."""

    def __init__(
        self,
        emulator: Emulator,
        url: str,
        *,
        seed: int,
        clients: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.emulator, self.clients = emulator, clients
        self.endpoint = emulator.endpoints["tone"]
        self.endpoint.jobs = self.jobs = CountedJobs(emulator.clock)
        settings = Settings(_env_file=None, runpod_api_base=f"{url}/v2", runpod_api_key=API_KEY)
        route = Route(slug="tone", processor="x", runpod_endpoint_id="tone", max_parallel=clients)
        self.processor = RunpodProcessor(route, Context(settings, transport))
        emulator.faults.set(RULES, seed=seed)

    async def run(self, jobs: int) -> Report:
        """Only once. Ends when every job has."""
        report, numbers, started_at = Report(jobs), itertools.count(), time.monotonic()

        async def client() -> None:
            while (number := next(numbers)) < jobs:
                await self._deliver(f"{number:x}", report)
                if number % max(1, jobs // SAMPLES) == 0:
                    report.samples.append(Sample.take(number))

        await asyncio.gather(*(client() for _ in range(self.clients)))
        await self.processor.close()
        report.seconds = time.monotonic() - started_at
        report.samples.append(Sample.take(jobs))
        return report

    async def _deliver(self, text: str, report: Report) -> None:
        for _ in range(MAX_TRIES):
            try:
                audio = await self._speak(text)
            except YapitError as error:
                report.told[error.code] += 1
                if not error.retryable:
                    report.lost.append(f"{text}: {error}")
                    return
            else:
                if audio == tone(text):
                    report.whole += 1
                else:
                    report.wrong.append(text)
                return
        report.lost.append(f"{text}: after {MAX_TRIES} tries")

    async def _speak(self, text: str) -> bytes:
        job = SynthesisJob(text, "tone", SynthesisParameters(text=text, voice="sine"), DEADLINE_S)
        events = [event async for event in self.processor.stream(job)]
        assert [type(event) for event in events].count(DoneEvent) == 1
        return b"".join(event.decoded() for event in events if isinstance(event, AudioEvent))

    def account(self, report: Report) -> None:
        """What the endpoint says of its jobs, once their clients are done."""
        pool, faults = self.endpoint.pool, self.emulator.faults
        report.taken, report.ended = self.jobs.taken, Counter({s.name: n for s, n in pool.finished.items()})
        report.unfinished = self.jobs.taken - sum(pool.finished.values())
        gc.collect()
        report.leaked = max(0, len(self.jobs.alive) - len(self.jobs))
        for rule, count in zip(faults.rules, faults.struck, strict=True):
            name = f"{rule.effect.value} {rule.value:g}" if "status" in rule.effect.value else rule.effect.value
            report.struck[name] = count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.runpod")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--out", type=Path, help="also write the figures there, such as to docs/benchmarks.md")
    parser.add_argument("--workers", choices=["in-process", "process"], default="in-process")
    chosen = parser.parse_args()
    made: list[Emulator] = []

    def make_server(url: str) -> Server:
        made.append(Emulator(TEST_FUNCTIONS, api_key=API_KEY, base_url=url, workers=chosen.workers))
        return Server(made[0])

    with serve(make_server) as (url, _):
        chaos = Chaos(made[0], url, seed=chosen.seed, clients=chosen.clients)
        report = asyncio.run(chaos.run(chosen.jobs))
        _until_all_ended(chaos)
        chaos.account(report)
    print(report)
    if chosen.out:
        before = chosen.out.read_text(encoding="utf-8")
        chosen.out.write_text(merged(before, [report.section()]), encoding="utf-8")
    sys.exit(1 if report.problems else 0)


def _until_all_ended(chaos: Chaos, patience_s: float = 2 * DEADLINE_S) -> None:
    """Jobs of which no client knows, since the answer to `/run` was lost, end by themselves."""
    end_at = time.monotonic() + patience_s
    while sum(chaos.endpoint.pool.finished.values()) < chaos.jobs.taken and time.monotonic() < end_at:
        time.sleep(0.5)


if __name__ == "__main__":
    main()
