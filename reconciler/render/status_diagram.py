"""The cluster as a mermaid flowchart: zones, their servers, and on each what has the traffic and what a rollout changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from reconciler.model.cluster import Backend, ClusterState, Role, ServiceState
from reconciler.model.desired import ServerEntry
from reconciler.render.escaping import label

BOXES_MOST = 48
"""Beyond this many instances each server is one box with numbers; beyond as many servers, each zone."""
ROLES: tuple[Role, ...] = ("live", "staged", "kept", "draining")
_STYLES = (
    "  classDef live fill:#dff3e3,stroke:#2f7d43,color:#10301a",
    "  classDef staged fill:#fff3d1,stroke:#b07d12,color:#3d2b04,stroke-dasharray:4 3",
    "  classDef kept fill:#e6eefb,stroke:#4a6fa5,color:#16263d,stroke-dasharray:4 3",
    "  classDef draining fill:#ececec,stroke:#8a8a8a,color:#444444,stroke-dasharray:2 3",
    "  classDef plain fill:#f6f8fa,stroke:#8a8a8a,color:#24292f",
    "  classDef box fill:#ffffff,stroke:#8a8a8a,color:#24292f",
)

Entries = Sequence[tuple[str, ServiceState, Backend]]
"""Instances with their services."""


def diagram(cluster: ClusterState, servers: Mapping[str, ServerEntry]) -> list[str]:
    """The lines of the flowchart, without the fence. `servers`: the inventory; empty where there is none."""
    here = by_server(cluster)
    zones: dict[str, list[str]] = {}
    for name in sorted({*servers, *cluster.members, *here}):
        zones.setdefault(servers[name].zone if name in servers else "", []).append(name)
    lines, boxes = ["flowchart LR"], []
    for number, (zone, members) in enumerate(sorted(zones.items())):
        lines += [f"  subgraph z{number}[{label(f'zone {zone}' if zone else 'not in the inventory')}]", "    direction TB"]
        lines += _zone(f"z{number}", members, servers, here, fine=_fine(zones, here))
        lines.append("  end")
        boxes.append(f"z{number}")
        if _fine(zones, here) == "instances":
            boxes += [f"z{number}s{place}" for place in range(len(members))]
    return [*lines, *_STYLES, *([f"  class {','.join(boxes)} box"] if boxes else [])]


def _fine(zones: Mapping[str, Sequence[str]], here: Mapping[str, Entries]) -> Literal["instances", "servers", "zones"]:
    """What a box stands for, so that there are not too many of them."""
    servers = sum(map(len, zones.values()))
    if servers > BOXES_MOST:
        return "zones"
    return "instances" if max(servers, sum(map(len, here.values()))) <= BOXES_MOST else "servers"


def _zone(
    key: str, members: Sequence[str], servers: Mapping[str, ServerEntry], here: Mapping[str, Entries], *, fine: str
) -> Iterator[str]:
    if fine == "zones":
        together = [entry for name in members for entry in here.get(name, ())]
        many = f"{len(members)} server{'' if len(members) == 1 else 's'}"
        yield f"    {key}all[{label(many, *counts(together))}]:::plain"
        return
    for number, name in enumerate(members):
        if fine == "servers":
            told = label(_titled(name, servers.get(name)), *counts(here.get(name, ())))
            yield f"    {key}s{number}[{told}]:::plain"
        else:
            yield from _server(f"{key}s{number}", name, servers.get(name), here.get(name, ()))


def version(state: ServiceState, backend: Backend) -> str:
    """The config revision that an instance runs, short; the beginning of its digest where no revision is known for that."""
    revision = state.revision_of(backend.spec)
    return revision[:7] if revision is not None else f"spec {backend.spec.removeprefix('sha256:')[:7]}"


def by_server(cluster: ClusterState) -> Mapping[str, Entries]:
    """Every instance of the decision on each server: services by name, then replicas, then slots."""
    found: dict[str, list[tuple[str, ServiceState, Backend]]] = {}
    for name, state in sorted(cluster.services.items()):
        for backend in sorted(state.backends, key=lambda b: (b.replica, b.slot)):
            found.setdefault(backend.server, []).append((name, state, backend))
    return found


def counts(entries: Entries) -> Iterator[str]:
    """`12 live`, `1 staged`; `nothing`."""
    roles = Counter(backend.role for _, _, backend in entries)
    yield from (f"{roles[role]} {role}" for role in ROLES if roles[role])
    if not entries:
        yield "nothing"


def _titled(name: str, entry: ServerEntry | None) -> str:
    return f"{name} (drained)" if entry is not None and entry.state == "drained" else name


def _server(key: str, name: str, entry: ServerEntry | None, entries: Entries) -> Iterable[str]:
    """A box with one node for each instance. In a rollout an arrow leads from the old one to the new one."""
    yield f"    subgraph {key}[{label(_titled(name, entry))}]"
    nodes: dict[tuple[str, int, str], tuple[str, Role]] = {}
    for number, (service, state, backend) in enumerate(entries):
        node = f"{key}i{number}"
        nodes[service, backend.replica, backend.slot] = node, backend.role
        replica = f" ({backend.replica})" if backend.replica > 1 else ""
        role = "" if backend.role == "live" else f", {backend.role}"
        yield f"      {node}[{label(service + replica, f'{version(state, backend)} {backend.slot}{role}')}]:::{backend.role}"
    if not entries:
        yield f"      {key}none[{label('nothing')}]:::plain"
    yield "    end"
    for (service, replica_number, slot), (old, role_of_old) in nodes.items():
        new, role_of_new = nodes.get((service, replica_number, "secondary" if slot == "primary" else "primary"), ("", None))
        if (role_of_old, role_of_new) in (("live", "staged"), ("kept", "live"), ("draining", "live")):
            yield f"    {old} -.-> {new}"
