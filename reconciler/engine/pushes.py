"""How often to push: a token bucket and a back-off (DESIGN section 5: Git hosts recommend at most 6 pushes a minute)."""

from __future__ import annotations

import random

from reconciler.engine.ports import ClockPort

BACKOFF_FIRST = 2.0
BACKOFF_MOST = 120.0


class Pushes:
    """`per_minute` pushes, as many at once after a quiet minute. Failures double the wait, with jitter."""

    def __init__(self, clock: ClockPort, per_minute: int) -> None:
        self._clock = clock
        self._per_minute = max(1, per_minute)
        self._tokens = float(self._per_minute)
        self._filled_at = clock.monotonic()
        self.failures = 0
        self._not_before = 0.0
        self.count = 0
        self.error: str | None = None

    def wait(self, *, urgent: bool) -> float:
        """Seconds until a push may be made; 0.0 means now. `urgent` ones, which somebody waits for, only heed the back-off."""
        self._fill()
        held = max(0.0, self._not_before - self._clock.monotonic())
        if urgent or self._tokens >= 1.0:
            return held
        return max(held, (1.0 - self._tokens) * 60.0 / self._per_minute)

    def started(self) -> None:
        """A push is being made."""
        self._fill()
        self._tokens = max(0.0, self._tokens - 1.0)
        self.count += 1

    def succeeded(self) -> None:
        """The remote took it."""
        self.failures, self._not_before, self.error = 0, 0.0, None

    def failed(self, error: str) -> None:
        """The remote did not, or nobody knows."""
        self.failures += 1
        delay = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(self.failures - 1, 10))
        self._not_before = self._clock.monotonic() + delay * random.uniform(0.75, 1.25)
        self.error = error

    def _fill(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(float(self._per_minute), self._tokens + (now - self._filled_at) * self._per_minute / 60.0)
        self._filled_at = now
