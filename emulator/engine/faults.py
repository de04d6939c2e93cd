"""Faults on purpose, by rule: what matches, how often, and what happens. With a seed, so that a run can be repeated."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


class Effect(enum.Enum):
    # on requests

    STATUS = "status"
    """Answer a request with the status `value` and do nothing else."""
    STATUS_AFTER = "status-after"
    """Serve a request, then answer with the status `value`, as a proxy in front of the server may."""
    LATENCY = "latency"
    """Answer a request `value` seconds later."""
    DROP_BEFORE = "drop-before"
    """Break the connection off instead of serving a request."""
    DROP_AFTER = "drop-after"
    """Serve a request, then break the connection off instead of answering."""
    TRUNCATE = "truncate"
    """Serve a request, and break the connection off halfway through the first part of the answer's body."""

    # on jobs, and the workers that have them

    STUCK = "stuck"
    """A job stays in the queue for `value` seconds before a worker may have it; 0: for ever."""
    DUPLICATE = "duplicate"
    """A job is delivered twice at the same time, to another worker if one has room. Both stream; one ends it."""
    KILL_BEFORE = "kill-before"
    """The worker dies as it gets the job."""
    KILL_DURING = "kill-during"
    """The worker dies once the job has a chunk; a job that ends in the same breath as that has been served."""
    KILL_AFTER = "kill-after"
    """The worker dies once the job is over, and the other jobs that it has die with it."""
    FAIL_DURING = "fail-during"
    """The job fails once it has a chunk, as if its own code had raised; the worker lives."""
    OUT_OF_MEMORY = "out-of-memory"
    """The worker is killed (SIGKILL, exit code 137) `value` seconds after it began the job."""
    LOSE_RESULT = "lose-result"
    """The worker says how the job ended and is not heard; its chunks are."""

    # on workers

    SLOW_START = "slow-start"
    """A new worker takes `value` seconds longer to start."""
    THROTTLE = "throttle"
    """There is no capacity for a new worker for `value` seconds; 0: for ever."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """`match` is a glob over `"METHOD /path"` for effects on requests, `"pool/job id"` for those on jobs and
    `"pool/worker id"` for those on workers; a RunPod endpoint's pool is named by its id.

    It strikes with `probability`, at most `count` times.
    """

    effect: Effect
    match: str = "*"
    probability: float = 1.0
    count: int | None = None
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.effect in (Effect.STATUS, Effect.STATUS_AFTER) and not 200 <= self.value <= 599:
            raise ValueError(
                f"a rule with the effect {self.effect.value!r} needs a value of 200 to 599, found {self.value:g}"
            )


class Faults:
    """The rules in force, and how often each has struck."""

    def __init__(self, rules: Iterable[FaultRule] = (), *, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self.rules: list[FaultRule] = []
        self.struck: list[int] = []
        self.set(rules, seed=seed)

    def set(self, rules: Iterable[FaultRule], *, seed: int = 0) -> None:
        """Replace all rules; the counts begin again."""
        self._random.seed(seed)
        self.rules = list(rules)
        self.struck = [0] * len(self.rules)

    def strike(self, effect: Effect, subject: str) -> FaultRule | None:
        """The first rule with that effect that strikes the subject now."""
        for number, rule in enumerate(self.rules):
            is_spent = rule.count is not None and self.struck[number] >= rule.count
            if rule.effect is not effect or is_spent or not fnmatchcase(subject, rule.match):
                continue
            if self._random.random() < rule.probability:
                self.struck[number] += 1
                return rule
        return None
