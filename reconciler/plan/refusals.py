"""What an nginx is to load when it has refused parts of what it should: the rest (DESIGN section 4, rule 3).

One service's bad configuration never holds back the others. A refused part is remembered for as long as that nginx runs and that
part is wanted: its names are written as the addresses that they stand for, which always load; if that is no help, the service stays
as it was loaded, is tried again now and then, and the server does not acknowledge it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reconciler.model.observed import Elapsed, NginxState, Observed, Refusal
from reconciler.model.routes import NginxConfig, Peer, Upstream
from reconciler.plan import facts


@dataclass(frozen=True)
class Settled:
    """What is to be loaded. `missing`: upstreams that stay as they were; `silent`: (upstream, port) that cannot be listened on."""

    config: NginxConfig
    missing: frozenset[str] = frozenset()
    silent: frozenset[tuple[str, int]] = frozenset()


def upstream_part(peers: tuple[Peer, ...]) -> str:
    """What identifies the peers of an upstream, in any order."""
    given = sorted((peer.address, peer.backup, peer.weight) for peer in peers)
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:12]


def listener_part(port: int) -> str:
    """What identifies a listener."""
    return str(port)


def settle(config: NginxConfig, state: NginxState, observed: Observed, elapsed: Elapsed) -> Settled:
    """`config` without what this nginx has refused."""
    if not state.refusals:
        return Settled(config)
    silent = frozenset(
        (listener.upstream, listener.port)
        for listener in config.listeners
        if _find(state, listener.upstream, "listener", listener_part(listener.port)) is not None
    )
    addresses = instance_addresses(observed)
    chosen = [_upstream(upstream, state, addresses, elapsed) for upstream in config.upstreams]
    upstreams = tuple(upstream for upstream, _ in chosen if upstream.peers)
    names = {upstream.name for upstream in upstreams}
    heard = tuple(item for item in config.listeners if (item.upstream, item.port) not in silent)
    missing = frozenset(upstream.name for upstream, as_wanted in chosen if not as_wanted)
    return Settled(_reaching(config.model_copy(update={"upstreams": upstreams, "listeners": heard}), names), missing, silent)


def due(observed: Observed, elapsed: Elapsed) -> frozenset[str]:
    """Refused parts whose wait is over, by the names of their facts: what `settle` decides by besides its other arguments."""
    return frozenset(
        facts.refused_part(name, refusal) for name, state in observed.nginx.items() for refusal in state.refusals
        if _is_due(name, refusal, elapsed)
    )  # fmt: skip


def _is_due(name: str, refusal: Refusal, elapsed: Elapsed) -> bool:
    return elapsed.of(facts.refused_part(name, refusal)) >= facts.retry_delay(refusal.tries)


def leave_out(config: NginxConfig, names: Collection[str]) -> NginxConfig:
    """`config` without everything of some upstreams: nothing listens for them, and no route leads to them."""
    if not names:
        return config
    upstreams = tuple(upstream for upstream in config.upstreams if upstream.name not in names)
    routes = tuple(route for route in config.routes if route.service.replace("/", "_") not in names)
    rest = config.model_copy(update={"upstreams": upstreams, "routes": routes})
    return _reaching(rest, {upstream.name for upstream in upstreams})


def _reaching(config: NginxConfig, names: Collection[str]) -> NginxConfig:
    routes = tuple(r if r.upstream in names else r.model_copy(update={"upstream": None}) for r in config.routes)
    listeners = tuple(listener for listener in config.listeners if listener.upstream in names)
    return config.model_copy(update={"routes": routes, "listeners": listeners})


def _upstream(upstream: Upstream, state: NginxState, addresses: Mapping[str, str], elapsed: Elapsed) -> tuple[Upstream, bool]:
    """The first form that was not refused, else what was loaded; and whether it does what is wanted."""
    forms = [upstream.peers]
    if (by_address := _by_address(upstream.peers, addresses)) != upstream.peers:
        forms.append(by_address)
    refusal: Refusal | None = None
    for form in forms:
        refusal = _find(state, upstream.name, "upstream", upstream_part(form))
        if refusal is None:
            return upstream.model_copy(update={"peers": form}), True
    assert refusal is not None
    if _is_due(state.name, refusal, elapsed):
        return upstream.model_copy(update={"peers": forms[-1]}), True
    return upstream.model_copy(update={"peers": _by_address(refusal.kept, addresses)}), False


def _find(state: NginxState, upstream: str, kind: str, part: str) -> Refusal | None:
    return next((r for r in state.refusals if (r.upstream, r.kind, r.part) == (upstream, kind, part)), None)


def _by_address(peers: tuple[Peer, ...], addresses: Mapping[str, str]) -> tuple[Peer, ...]:
    def written(peer: Peer) -> Peer:
        host, _, port = peer.address.rpartition(":")
        return peer.model_copy(update={"address": f"{addresses[host]}:{port}"}) if host in addresses else peer

    return tuple(written(peer) for peer in peers)


def instance_addresses(observed: Observed) -> Mapping[str, str]:
    """The fixed address that each instance's name stands for, also while none of its containers is there."""
    found = {}
    for service, replica, pair in observed.all_pairs():
        for slot, address in zip(("primary", "secondary"), pair, strict=True):
            found[service.instance(slot, replica).name] = address  # type: ignore[arg-type]
    return found
