"""One server's looks at the backends that its nginxes list, as `effects/pulses.py` makes them; the hysteresis is the product's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.model.gate import ProbeResult
from reconciler.model.pulse import BORN, FORGIVEN, INTERVAL, Pulse, beat
from reconciler.plan.masks import PulseTarget


@dataclass
class Pulses:
    """What is found at the time of a pass stands for all the looks since the pass before."""

    watched: Mapping[str, PulseTarget] = field(default_factory=dict)
    pulses: dict[str, Pulse] = field(default_factory=dict)
    looked: float = 0.0

    def watch(self, targets: Mapping[str, PulseTarget], now: float) -> None:
        """The full set to look at from now on, by address."""
        if not self.watched:
            self.looked = now
        self.watched = targets
        self.pulses = {address: pulse for address, pulse in self.pulses.items() if address in targets}

    def look(self, now: float, answers: Callable[[PulseTarget, str], bool]) -> None:
        """Every look that has become due."""
        rounds = int((now - self.looked) / INTERVAL)
        self.looked += rounds * INTERVAL
        for address, target in self.watched.items() if rounds else ():
            found = ProbeResult(kind="success") if answers(target, address) else ProbeResult(kind="failure", error="no answer")
            if found.kind == "success" and self.pulses.get(address, BORN).deaths == 0:
                self.pulses[address] = BORN  # it has not died lately: how often it answered makes no difference
                continue
            for _ in range(min(rounds, FORGIVEN)):
                self.pulses[address] = beat(self.pulses.get(address, BORN), found)

    def dead(self) -> dict[str, str]:
        """For `Observed.dead`."""
        return {address: pulse.error for address, pulse in self.pulses.items() if pulse.dead}
