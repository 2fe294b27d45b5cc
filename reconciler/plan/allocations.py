"""What is given out for good: subnets of networks, pairs of addresses, pairs of host ports. What is recorded wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.errors import Stalled
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired, DesiredService
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.site import Site
from reconciler.plan.addresses import Pair, pair_for
from reconciler.ports import SECONDARY_OFFSET, host_port


@dataclass
class Allocations:
    """What has been given out while one plan is made: subnets and pairs that Docker does not know of yet."""

    networks: dict[str, str]
    pairs: dict[tuple[ServiceKey, int], Pair] = field(default_factory=dict)
    ports: dict[tuple[ServiceKey, int], tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Here:
    """All that the ladder looks at besides the instance."""

    desired: Desired
    cluster: ClusterState
    observed: Observed
    elapsed: Elapsed
    site: Site
    allocations: Allocations


def pair_of(here: Here, key: ServiceKey, replica: int) -> Pair | None:
    """The addresses of a replica's slots: recorded ones, else free ones of its network; None while the network has no subnet."""
    recorded = here.observed.pair(key, replica)
    if recorded is not None:
        return recorded
    subnet = here.allocations.networks.get(key.network)
    if subnet is None:
        return None
    for other, number in _without_a_pair(here, key, replica):
        if (other, number) in here.allocations.pairs:
            continue
        taken = {
            c.labels.addresses for c in here.observed.containers if c.labels.service and c.labels.service.network == key.network
        }
        # A service that the decision knows keeps its addresses while it has no container.
        taken |= {pair for name, pair in here.observed.pairs.items() if name.partition("#")[0] in here.cluster.services}
        given = (pair for (k, _), pair in here.allocations.pairs.items() if k.network == key.network)
        pairs = [pair for pair in (*taken, *given) if pair is not None]
        here.allocations.pairs[other, number] = pair_for(other, number, subnet, pairs)
    return here.allocations.pairs[key, replica]


def _without_a_pair(here: Here, key: ServiceKey, replica: int) -> Sequence[tuple[ServiceKey, int]]:
    """This replica, after all of its network on this server that come before it and have no pair recorded, in order.

    One of them may be about to be made by an action under way, which no container shows yet and this plan does not repeat.
    """
    if (key, replica) in here.allocations.pairs:
        return ()
    before = {
        (other, backend.replica)
        for other, state in ((ServiceKey.parse(name), state) for name, state in here.cluster.services.items())
        if other.network == key.network
        for backend in state.backends
        if backend.server == here.observed.server and (other, backend.replica) < (key, replica)
    }
    return (*sorted(each for each in before if here.observed.pair(*each) is None), (key, replica))


def ports_of(here: Here, key: ServiceKey, replica: int, service: DesiredService) -> tuple[int, int]:
    """The host ports of both slots: recorded ones, else probing upward for both at once (DESIGN section 3)."""
    for container in here.observed.containers:
        if container.labels.service == key and container.labels.replica == replica and container.labels.ports:
            return container.labels.ports
    listed = _listed_ports(here)
    if (key, replica) in listed:
        return listed[key, replica]
    if (key, replica) not in here.allocations.ports:
        taken = {port for c in here.observed.containers for port in c.labels.ports or ()}
        taken |= {port for pair in (*here.allocations.ports.values(), *listed.values()) for port in pair}
        taken |= here.observed.busy_ports
        first = host_port(key.project, key.env, key.service, service.spec.port)
        candidates = ((first - 8000 + step) % 1000 + 8000 for step in range(1000))
        port = next((p for p in candidates if p not in taken and p + SECONDARY_OFFSET not in taken), None)
        if port is None:
            raise Stalled(f"no pair of host ports is free for {key}: 8000 to 8999 with 18000 to 18999", reason="NoFreePort")
        here.allocations.ports[key, replica] = (port, port + SECONDARY_OFFSET)
    return here.allocations.ports[key, replica]


def _listed_ports(here: Here) -> Mapping[tuple[ServiceKey, int], tuple[int, int]]:
    """The host ports that the decision lists for this server: kept while there is no container that carries them."""
    found = {}
    for name, state in here.cluster.services.items():
        for backend in state.backends:
            if backend.server == here.observed.server and backend.port is not None:
                primary = backend.port if backend.slot == "primary" else backend.port - SECONDARY_OFFSET
                found[ServiceKey.parse(name), backend.replica] = (primary, primary + SECONDARY_OFFSET)
    return found
