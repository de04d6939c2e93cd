"""Answers that are remembered, so that an RPC which the SDK repeats is done once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from emulator.engine.clock import Clock

MAX_ANSWERS = 10_000
RETENTION_S = 600.0


class Answers:
    """By RPC and idempotency key; bounded in number and in time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: OrderedDict[tuple[str, str], tuple[float, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, rpc: str, key: str) -> Any | None:
        self._forget()
        _, answer = self._answers.get((rpc, key), (0.0, None))
        return answer

    def keep(self, rpc: str, key: str, answer: Any) -> None:
        self._answers[rpc, key] = (self._clock.now(), answer)
        self._forget()

    def _forget(self) -> None:
        forgotten_s = self._clock.now() - RETENTION_S
        while self._answers and (
            len(self._answers) > MAX_ANSWERS or next(iter(self._answers.values()))[0] < forgotten_s
        ):
            self._answers.popitem(last=False)
