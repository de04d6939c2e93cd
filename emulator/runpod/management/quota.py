"""The `RateLimit` headers: what is left of each window [V2]. They are counted and told, not enforced."""

from __future__ import annotations

from emulator.engine.clock import Clock
from emulator.runpod.management import rules


class RequestQuota:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s = dict.fromkeys(rules.RATE_POLICY, clock.now())
        self._counted = dict.fromkeys(rules.RATE_POLICY, 0)

    def count(self) -> dict[str, str]:
        """Count a request; the headers of its answer."""
        left = []
        for window, (quota, window_s) in rules.RATE_POLICY.items():
            if self._clock.now() - self._began_s[window] >= window_s:
                self._began_s[window], self._counted[window] = self._clock.now(), 0
            self._counted[window] += 1
            resets_s = window_s - (self._clock.now() - self._began_s[window])
            left.append(f'"{window}";r={max(0, quota - self._counted[window])};t={round(resets_s)}')
        policy = [f'"{window}";q={quota};w={window_s}' for window, (quota, window_s) in rules.RATE_POLICY.items()]
        return {"ratelimit": ", ".join(left), "ratelimit-policy": ", ".join(policy)}
