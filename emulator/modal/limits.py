"""How much a function takes: inputs that wait, inputs in all, inputs per second."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.engine.clock import Clock
from emulator.modal import facts


class OverLimit(Exception):
    """The message names the limit."""


@dataclass(frozen=True, slots=True)
class ModalLimits:
    """Per function. `inputs_per_s` of None: no rate limit."""

    max_queued: int = facts.MAX_QUEUED
    max_total: int = facts.MAX_TOTAL
    max_spawned: int = facts.MAX_SPAWNED
    inputs_per_s: float | None = None
    burst_s: float = facts.RATE_BURST_S


class RateLimiter:
    """A bucket of `burst_s` seconds' worth of inputs, which fills up again at `inputs_per_s`."""

    def __init__(self, limits: ModalLimits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._spent: dict[str, tuple[float, float]] = {}

    def take(self, function_id: str, inputs: int) -> None:
        """Raises `OverLimit`."""
        rate = self._limits.inputs_per_s
        if rate is None:
            return
        now_s = self._clock.now()
        spent, at_s = self._spent.get(function_id, (0.0, now_s))
        spent = max(0.0, spent - (now_s - at_s) * rate) + inputs
        if spent > rate * self._limits.burst_s:
            raise OverLimit(f"over {rate:g} inputs per second for {self._limits.burst_s:g} s")
        self._spent[function_id] = (spent, now_s)
