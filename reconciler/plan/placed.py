"""Which instances of a service should exist where, compared with the backends that the decision lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.cluster import Backend, ServiceState
from reconciler.model.desired import DesiredService, ServerEntry
from reconciler.model.identity import Slot, other_slot
from reconciler.ports import SECONDARY_OFFSET

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


def obstacle(want: DesiredService, state: ServiceState, servers: Mapping[str, ServerEntry]) -> str | None:
    """Why no rollout may begin, or go on before its switch.

    A stateful service stays where its data is. So nothing that concerns its placement holds up a new version there, unless the
    server is out of the inventory: then nobody would carry it out.
    """
    stays = want.stateful and bool(live_slots(state)) and not assignment(want, state).moved
    if stays and any(server not in servers for server, _ in live_slots(state)):
        return rooted(want, state, servers)
    return None if stays and want.homeless else want.stalled


def rooted(want: DesiredService, state: ServiceState, servers: Mapping[str, ServerEntry]) -> str | None:
    """Why a service whose very version is live everywhere is not where the config would have it (DESIGN section 2, State)."""
    if not want.stateful:
        return want.stalled
    found = sorted({server for server, _ in live_slots(state)})
    told = [f"{name}, which is drained" for name in found if name in servers and servers[name].state == "drained"]
    told += [f"{name}, which is out of the inventory" for name in found if name not in servers]
    return f"its data is on {' and '.join(told)}: stateful: only `servers:` moves it" if told else None


def outdated(want: DesiredService, state: ServiceState) -> list[Place]:
    """Places of `want` where its very spec is not live, sorted: where an instance has to be staged."""
    current = {(b.server, b.replica) for b in state.backends if b.role == "live" and b.spec == want.spec.digest}
    return sorted(assignment(want, state).places - current)


def stranded(want: DesiredService, state: ServiceState) -> list[Place]:
    """Those of them where another spec is live: what a recreate replaces in its own slot."""
    live = live_slots(state)
    return [place for place in outdated(want, state) if place in live]


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


def staged(place: Place, slot: Slot, want: DesiredService) -> Backend:
    """A backend about to be started, without traffic."""
    spec = want.spec
    return Backend(
        server=place[0], replica=place[1], slot=slot, container_port=spec.port, spec=spec.digest, role="staged", weight=0
    )


def beside(state: ServiceState, backend: Backend) -> Backend | None:
    """What had the traffic of a place before, in its other slot, and still runs there."""
    place = (backend.server, backend.replica, other_slot(backend.slot))
    past = (b for b in state.backends if b.role in ("kept", "draining"))
    return next((b for b in past if (b.server, b.replica, b.slot) == place), None)


def stands_behind(listed: Backend, other: Backend, at: str) -> bool:
    """Whether a configuration of the server `at` that lists one instance of a place as live reaches the other slot's as its backup.

    Alone, an instance's other slot is written with its own ports: the host port for other servers, the container port on its own
    server (docs/decisions/0011). It is elsewhere if a version changed the container port, or the backend mode.
    """
    ports = (listed.container_port, other.container_port)
    if listed.port is None:
        return None in ports or ports[0] == ports[1]
    if other.port != listed.port + (SECONDARY_OFFSET if listed.slot == "primary" else -SECONDARY_OFFSET):
        return False
    return at != listed.server or (None not in ports and ports[0] == ports[1])
