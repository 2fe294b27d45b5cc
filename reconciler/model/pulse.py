"""Whether a backend that is listed answers this server: one look after the other, with hysteresis (docs/decisions/0008)."""

from __future__ import annotations

from typing import Final

from reconciler.model.base import Model
from reconciler.model.gate import ProbeResult

INTERVAL: Final = 5.0
"""Seconds between two looks at the same backend."""
FAILURES: Final = 3
"""Failed looks in a row after which a backend counts as dead: it is masked 10 to 15 s after it stopped answering."""
SUCCESSES: Final = 3
"""Good looks in a row after which it counts as alive again, the first time; twice as many after each relapse."""
MOST_SUCCESSES: Final = 60
"""At most this many: five minutes."""
FORGIVEN: Final = 120
"""Good looks in a row (ten minutes) after which its earlier deaths are forgotten."""


class Pulse(Model):
    """One backend as this server's probes find it. `deaths`: how often it died lately: a flapping one stays masked longer."""

    dead: bool = False
    failures: int = 0  # in a row
    successes: int = 0  # in a row
    deaths: int = 0
    error: str = ""  # of the last failed look before it died: words that stay the same while it is dead


BORN: Final = Pulse()


def beat(pulse: Pulse, result: ProbeResult) -> Pulse:
    """The pulse after one more look."""
    if result.kind != "success":
        failures = pulse.failures + 1
        dies = not pulse.dead and failures >= FAILURES
        error = pulse.error if pulse.dead else result.error or "the probe failed"
        return Pulse(dead=pulse.dead or dies, failures=failures, deaths=pulse.deaths + dies, error=error)
    successes = pulse.successes + 1
    dead = pulse.dead and successes < min(MOST_SUCCESSES, SUCCESSES * 2 ** min(max(pulse.deaths - 1, 0), 10))
    deaths = 0 if not dead and successes >= FORGIVEN else pulse.deaths
    return Pulse(dead=dead, successes=min(successes, FORGIVEN), deaths=deaths, error=pulse.error if dead else "")
