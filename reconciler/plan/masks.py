"""Which backends this server probes, and which of them its nginxes are to pass over (DESIGN section 4, The switch, rule 6).

A mask is this server's own: it changes neither generation nor acknowledgement. A masked backend is written as a backup, so that it
is still tried when nobody else answers, and the last one that is left is never masked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from reconciler.model.cluster import Backend, ClusterState
from reconciler.model.desired import Desired, Health
from reconciler.model.observed import Observed
from reconciler.model.routes import NginxConfig, Peer, Upstream
from reconciler.plan.nginxes import Intended
from reconciler.plan.upstreams import Reachable, upstream_name

TOLD_AFTER = 30.0
"""Seconds for which a backend has to be masked before the report says so: a short absence is not worth a push."""


@dataclass(frozen=True)
class PulseTarget:
    """A backend to look at, by the address that nginx uses. `path` None: it has to accept a connection and keep it."""

    service: str
    backend: Backend
    path: str | None
    timeout: float


def several(intended: Mapping[str, Intended]) -> frozenset[str]:
    """Upstreams in which one of this server's nginxes has more than one live backend to choose from."""
    return frozenset(
        upstream.name
        for want in intended.values()
        for upstream in want.config.upstreams
        if sum(1 for peer in upstream.peers if peer.live or not peer.backup) > 1
    )


def pulse_targets(
    desired: Desired, cluster: ClusterState, observed: Observed, listed: Collection[str]
) -> Mapping[str, PulseTarget]:
    """What to look at, by address: each live backend of the upstreams `listed` by this server's nginxes that have more than one."""
    if not listed:
        return {}
    reach = Reachable(desired, cluster, observed)
    found: dict[str, PulseTarget] = {}
    for key, state in reach.services():
        if upstream_name(key) not in listed:
            continue
        reached = [(backend, address) for backend, address in reach.live(key, state) if address is not None]
        for backend, address in reached if len(reached) > 1 else ():
            service = desired.service_at(key, backend.spec)
            health = service.spec.health if service is not None else Health()
            own = service is not None and health.port in (None, service.spec.port)
            path = health.path if health.kind == "http" and own else None
            found[address] = PulseTarget(str(key), backend, path, health.timeout)
    return found


def mask(config: NginxConfig, dead: Collection[str], addresses: Mapping[str, str]) -> NginxConfig:
    """`config` with the `dead` (by address) behind the others. `addresses`: what the names in it stand for."""
    if not dead:
        return config
    upstreams = tuple(_masked(upstream, dead, addresses) for upstream in config.upstreams)
    return config if upstreams == config.upstreams else config.model_copy(update={"upstreams": upstreams})


def masked(config: NginxConfig, dead: Collection[str], addresses: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(upstream, address) of what `mask` would set behind the others."""
    for before, after in zip(config.upstreams, mask(config, dead, addresses).upstreams, strict=True):
        passed = {peer.address for peer in before.peers if not peer.backup} - {p.address for p in after.peers if not p.backup}
        yield from ((before.name, _address(address, addresses)) for address in sorted(passed))


def _masked(upstream: Upstream, dead: Collection[str], addresses: Mapping[str, str]) -> Upstream:
    """Primaries that answer; else backends of other zones that do; if nobody does, as it was."""
    gone = {peer.address for peer in upstream.peers if _address(peer.address, addresses) in dead}
    primaries = [peer for peer in upstream.peers if not peer.backup]
    reserves = [peer for peer in upstream.peers if peer.backup and peer.live]
    chosen = [peer for peer in primaries if peer.address not in gone] or [peer for peer in reserves if peer.address not in gone]
    if not chosen or len(chosen) == len(primaries) == len([peer for peer in chosen if not peer.backup]):
        return upstream
    names = {peer.address for peer in chosen}
    peers = tuple(_as(peer, backup=peer.address not in names) for peer in upstream.peers)
    return upstream.model_copy(update={"peers": peers})


def _as(peer: Peer, *, backup: bool) -> Peer:
    return peer if peer.backup == backup else peer.model_copy(update={"backup": backup, "live": True})


def _address(peer: str, addresses: Mapping[str, str]) -> str:
    host, _, port = peer.rpartition(":")
    return f"{addresses[host]}:{port}" if host in addresses else peer
