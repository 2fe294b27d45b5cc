"""Fixed addresses: a /24 of the pool for each project network, a pair of addresses in it for each replica's two slots.

Addresses: .1 the gateway, .2 the edge, pairs from .4 on. What is recorded (labels, Docker networks) wins; what is new starts
at a hash and probes upward, so that the same services get the same addresses again after everything was removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from reconciler.errors import Stalled
from reconciler.model.identity import ServiceKey
from reconciler.ports import bucket_hash

Pair = tuple[str, str]

EDGE_OFFSET = 2
FIRST_PAIR = 4
PAIRS = 94  # up to .191: the last quarter is for containers that join without a fixed address


def subnet_for(network: str, pool: str, existing: Mapping[str, str]) -> str:
    """A /24 of `pool` that overlaps no existing Docker network. Raises Stalled when the pool is exhausted."""
    candidates = _blocks(pool)
    taken = [_network(subnet) for subnet in existing.values() if subnet and ":" not in subnet]
    start = bucket_hash(network) % len(candidates)
    for candidate in (*candidates[start:], *candidates[:start]):
        if not any(candidate.overlaps(other) for other in taken):
            return str(candidate)
    raise Stalled(
        f"no /24 of network_pool {pool} is free for {network}; give a larger `network_pool` in the settings", reason="PoolExhausted"
    )


def edge_address(subnet: str) -> str:
    """The edge's address on a project network."""
    return str(_network(subnet)[EDGE_OFFSET])


def pair_for(key: ServiceKey, replica: int, subnet: str, taken: Iterable[Pair]) -> Pair:
    """The addresses of the primary and the secondary slot. Raises Stalled when the network is full."""
    network = _network(subnet)
    used = {IPv4Address(address) for pair in taken for address in pair}
    start = bucket_hash(f"{key}#{replica}") % PAIRS
    for step in range(PAIRS):
        offset = FIRST_PAIR + 2 * ((start + step) % PAIRS)
        primary, secondary = network[offset], network[offset + 1]
        if primary not in used and secondary not in used:
            return str(primary), str(secondary)
    raise Stalled(f"{key.network} ({subnet}) has no free addresses left for {key}; split the project", reason="NetworkFull")


@lru_cache(maxsize=4096)
def _network(subnet: str) -> IPv4Network:
    """Every pass reads the same few subnets."""
    return IPv4Network(subnet)


@lru_cache(maxsize=16)
def _blocks(pool: str) -> tuple[IPv4Network, ...]:
    return tuple(IPv4Network(pool).subnets(new_prefix=24))
