"""Names that only one service of the whole cluster may have: containers, networks, volumes, public hosts with their paths.

`a_b` with environment `c` and `a` with environment `b_c` give the same names. Whoever has a name already keeps it; of two that are
new the first in the order of their keys gets it, and the other one's file is invalid and says who has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reconciler.model.desired import DesiredService
from reconciler.model.identity import ServiceKey, network_name

RESERVED = ("nginx", "nginx_host")

Claim = tuple[str, str]  # kind and name


def conflicts(services: Iterable[DesiredService], held: Iterable[DesiredService]) -> Iterator[tuple[ServiceKey, str]]:
    """(service that has to yield, why) for every name claimed twice. `held`: the services as they were before."""
    holders: dict[Claim, ServiceKey] = {}
    for service in held:
        for claim in claims(service):
            holders.setdefault(claim, service.key)
    claimants: dict[Claim, list[ServiceKey]] = {}
    for service in services:
        for claim in claims(service):
            claimants.setdefault(claim, []).append(service.key)
    told: set[tuple[ServiceKey, ServiceKey, str]] = set()
    for claim, keys in sorted(claimants.items()):
        ranked = sorted(keys, key=lambda key: (holders.get(claim) != key, key))
        kind, name = claim
        if kind == "name" and name in RESERVED:
            yield from ((key, f"the name {name} belongs to the reconciler's own nginx; rename the service") for key in ranked)
        for key in ranked[1:]:
            shareable = kind not in ("name", "route") and _same_environment(key, ranked[0])
            if not shareable and (key, ranked[0], kind) not in told:
                told.add((key, ranked[0], kind))  # once, not for each of the names that an instance has
                yield key, _why(kind, name, ranked[0], key)


def claims(service: DesiredService) -> set[Claim]:
    """Everything that a service takes for itself. Volumes and networks may be shared inside one project and environment."""
    found: set[Claim] = {("network", network_name(service.key.project, service.key.env))}
    for replica in range(1, service.replicas + 1):
        for slot in ("primary", "secondary"):
            instance = service.key.instance(slot, replica)
            found |= {("name", instance.name), ("name", instance.sidecar)}
    found |= {("volume", mount.source) for mount in service.spec.mounts if mount.kind == "volume"}
    for route in service.public:
        found |= {("route", f"{host}{route.path.rstrip('/') or '/'}") for host in route.hosts}
    return found


def network_names(services: Mapping[ServiceKey, DesiredService]) -> Iterator[tuple[ServiceKey, str]]:
    """Services whose container would be called like a project's network: `docker inspect` would answer for either."""
    networks = {network_name(key.project, key.env) for key in services}
    for service in services.values():
        for kind, name in sorted(claims(service)):
            if kind == "name" and name in networks:
                yield service.key, f"the container {name} would have the name of a project's network; rename the service"


def _same_environment(one: ServiceKey, other: ServiceKey) -> bool:
    return (one.project, one.env) == (other.project, other.env)


def _why(kind: str, name: str, owner: ServiceKey, key: ServiceKey) -> str:
    match kind:
        case "route":
            shown = f"any host{name[1:]}" if name.startswith("_") else name
            return f"{shown} is public twice: {owner} has it already; give {key} another host or path"
        case "name":
            return f"the container name {name} would also be that of {owner}; rename one of the services"
        case "volume":
            return f"the volume {name} would also be that of {owner}; rename one of them"
        case _:
            return f"the network {name} would also be that of {owner.project}/{owner.env}; rename the project or the environment"
