"""What happens in a run, as data: who steps when, what is committed, which faults strike. A run is replayed from this list alone.

An event holds its own luck (did the push land, at which effect does the program end), so that events can be left out of a failing
run, or made simpler, without changing what the others are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal

from tests.simulation.versions import Service

Push = Literal["lands", "lost", "unheard", "slow"]
Cut = Literal["dies", "freezes", "fails", "doubtful", "lingers"]


@dataclass(frozen=True)
class Pass:
    """A server's program makes one pass, `after` seconds after the event before.

    fetch: whether Git answers. push: it lands; it is lost before it reaches the remote; it lands and the answer is lost; it lands
    `seconds` later and no answer comes. at, cut: before which effect what happens: the program dies; it is frozen for `seconds` and
    then goes on with the plan it had; the effect fails; it is done and reported as failed; its action goes on `seconds` later while
    other passes are made. old: how long replaced nginx workers stay. load: seconds until an nginx loads what it was told to.
    """

    after: float
    server: str
    fetch: bool = True
    push: Push = "lands"
    at: int | None = None
    cut: Cut = "dies"
    seconds: float = 0.0
    old: float = 0.0
    load: float = 0.0
    pull: bool = True

    def plainer(self) -> Iterator[Pass]:
        """The same with one thing less gone wrong."""
        plain = Pass(self.after, self.server)
        for field in fields(self):
            if field.name not in ("after", "server") and getattr(self, field.name) != getattr(plain, field.name):
                yield replace(self, **{field.name: getattr(plain, field.name)})


@dataclass(frozen=True)
class Commit:
    """Somebody commits. `pick` and `value` choose among what there is then."""

    after: float
    kind: str
    pick: int = 0
    value: int = 0


@dataclass(frozen=True)
class Fault:
    """Something goes wrong on a server, or at the remote; `pick` chooses among what there is then."""

    after: float
    kind: str
    server: str
    pick: int = 0
    seconds: float = 0.0


Event = Pass | Commit | Fault


@dataclass(frozen=True)
class Machine:
    """A server of a scene. `rate`: seconds of its clock per second."""

    name: str
    zone: str
    rate: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A whole run: the servers, the first commit, and everything that happens until peace.

    founders: the servers of the first inventory; none means all. modes: whether each commit says which services are published, as
    the inventory has it; otherwise all of them are, if there are several machines.
    """

    seed: int
    machines: tuple[Machine, ...]
    services: tuple[Service, ...]
    events: tuple[Event, ...]
    founders: tuple[str, ...] = ()
    modes: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The servers' names."""
        return tuple(machine.name for machine in self.machines)
