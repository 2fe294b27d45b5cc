"""Everything in a small scope: two servers, one toggle, and the program's death at each moment, and at each two of them.

A death before an effect that follows another one in the same pass is the death after that one; the end of a pass is a moment too.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.daemon import Daemon, Moment
from tests.simulation.rules import Rules
from tests.simulation.trace import Commit, Machine, Pass, Scene
from tests.simulation.versions import Service
from tests.simulation.world import Broken, World

QUIET_PASSES = ("fetch", "decide", "plan")
SCENE = Scene(0, (Machine("a", "zone1"), Machine("b", "zone1")), (Service("web", count=2, public=True),), ())


@dataclass
class Mortal(World):
    """A world in which the program dies at the moments `deaths`, counted over both servers from the commit on."""

    deaths: frozenset[int] = frozenset()
    moments: int = 0
    counting: bool = False
    rules: Rules = field(default_factory=Rules)

    def step(self, daemon: Daemon, event: Pass) -> bool:
        """One pass, which may end early."""
        if not self.counting:
            return super().step(daemon, event)
        daemon.pulls.arrive(self.now)
        run, answer, begun = daemon.run(event), None, False
        try:
            moment: Moment = next(run)
            while True:
                if moment not in QUIET_PASSES:
                    begun = True
                    if self._dies(daemon, str(moment)[:60]):
                        run.close()
                        return True
                    answer = None if isinstance(moment, str) else self.perform(daemon, moment, event)
                moment = run.send(answer)
        except StopIteration as stop:
            return (begun and self._dies(daemon, "the end of the pass")) or bool(stop.value)

    def _dies(self, daemon: Daemon, moment: str) -> bool:
        number = self.moments
        self.moments += 1
        if number in self.deaths:
            self.say(daemon, f"dies before {moment}")
            daemon.restart()
        return number in self.deaths


def toggle(deaths: frozenset[int]) -> int:
    """One toggle with these deaths. Returns how many moments there were. Raises Broken."""
    world = Mortal(SCENE, deaths=deaths)
    world.faults = False
    world.converge()
    world.counting = True
    world.happens(Commit(1.0, "update"))
    world.converge()
    world.invariants.converged()
    return world.moments


def singles() -> Iterator[frozenset[int]]:
    """Each death alone."""
    return (frozenset({moment}) for moment in range(toggle(frozenset())))


def pairs(first: int) -> Iterator[frozenset[int]]:
    """A death at the moment `first`, and another one at each of those that come after it in that run."""
    return (frozenset({first, second}) for second in range(first + 1, toggle(frozenset({first}))))


@dataclass(frozen=True)
class Searched:
    """All pairs of deaths of which one is at `first`: how many there are, and what the first that breaks an invariant comes to."""

    first: int
    pairs: int
    broken: tuple[str, ...] = ()


def search(workers: int | None = None) -> Iterator[Searched]:
    """Each death alone and with each that comes after it, on several cores; in the order in which they are done."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers or os.cpu_count()) as pool:
        yield from pool.imap_unordered(_searched, range(toggle(frozenset())))


def _searched(first: int) -> Searched:
    done, deaths = 0, frozenset({first})
    try:
        for deaths in pairs(first):
            toggle(deaths)
            done += 1
    except Broken as broken:
        return Searched(first, done, (*broken.log, f"deaths before {sorted(deaths)}: {broken}"))
    return Searched(first, done)
