"""Which instances of a service should exist where, compared with the backends that the decision lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reconciler.model.cluster import Backend, ServiceState
from reconciler.model.desired import DesiredService
from reconciler.model.identity import Slot, other_slot

Place = tuple[str, int]  # (server, replica)


@dataclass(frozen=True)
class Assignment:
    """The places a service should have. `moved` says whether they differ from where it is live now."""

    places: frozenset[Place]
    moved: bool


def assignment(want: DesiredService, state: ServiceState) -> Assignment:
    """Where `want` belongs. A stateful service stays where it is live unless `servers:` moves it (DESIGN section 2, State)."""
    live = {(b.server, b.replica) for b in state.backends if b.role == "live"}
    servers = set(want.servers)
    if want.stateful and not want.pinned and live:
        servers = {server for server, _ in live}
    places = frozenset((server, replica) for server in servers for replica in range(1, want.replicas + 1))
    return Assignment(places=places, moved=bool(live) and live != places)


def outdated(want: DesiredService, state: ServiceState) -> list[Place]:
    """Places of `want` where its very spec is not live, sorted: where an instance has to be staged."""
    current = {(b.server, b.replica) for b in state.backends if b.role == "live" and b.spec == want.spec.digest}
    return sorted(assignment(want, state).places - current)


def stranded(want: DesiredService, state: ServiceState) -> list[Place]:
    """Those of them where another spec is live: what a recreate replaces in its own slot."""
    live = live_slots(state)
    return [place for place in outdated(want, state) if place in live]


def homeless(want: DesiredService, state: ServiceState, servers: Collection[str]) -> str | None:
    """Why a stateful service cannot go on: its data is on a server that the inventory (`servers`) no longer has."""
    places = {server for server, _ in assignment(want, state).places}
    lost = sorted(places - set(servers))
    if not lost:
        return None
    where = ", ".join(lost)
    return f"its data is on {where}, which is out of the inventory; take {where} in again, or name another under servers:"


def live_slots(state: ServiceState) -> Mapping[Place, Slot]:
    """The live slot of each place."""
    return {(b.server, b.replica): b.slot for b in state.backends if b.role == "live"}


def idle_slot(state: ServiceState, place: Place) -> Slot | None:
    """The slot that a toggle at `place` goes to; None while both are taken (the other one still drains).

    Nothing live: primary; primary live: secondary; secondary live: primary (DESIGN section 3).
    """
    taken = {b.slot for b in state.backends if (b.server, b.replica) == place}
    live = live_slots(state).get(place)
    candidate: Slot = other_slot(live) if live else "primary"
    if candidate not in taken:
        return candidate
    return None


def staged(place: Place, slot: Slot, spec: str) -> Backend:
    """A backend about to be started, without traffic."""
    return Backend(server=place[0], replica=place[1], slot=slot, spec=spec, role="staged", weight=0)
