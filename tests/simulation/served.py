"""What an nginx does with the text it has loaded, as far as traffic goes: `tests.fakes.nginx` reads it from the text alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tests.fakes.nginx import Loaded, Proxied, Refused, load

__all__ = ["Meaning", "Refused", "Served", "meaning", "serve"]

Group = tuple[str, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Meaning:
    """Which upstreams a text leads to, by public host and by loopback port, and the fingerprint that it answers."""

    hosts: Mapping[str, str]
    ports: Mapping[int, str]
    fingerprint: str

    @property
    def used(self) -> frozenset[str]:
        """The names of the upstreams that something leads to."""
        return frozenset({*self.hosts.values(), *self.ports.values()})


@dataclass(frozen=True)
class Served:
    """A text in use, its names resolved when it was loaded: each upstream's name, its peers (`ip:port`) and those behind them."""

    text: str
    meaning: Meaning
    groups: tuple[Group, ...]


@lru_cache(maxsize=20000)
def meaning(text: str) -> Meaning:
    """What a text means, whatever its names resolve to."""
    loaded = load(text, lambda host: ("192.0.2.1",))
    found = {port: loaded.stream(port) for port in loaded.stream_ports}
    routes = {host: loaded.route(host, "/") for host in loaded.hosts}
    assert loaded.fingerprint is not None, text
    return Meaning(
        hosts={host: route.peers.upstream for host, route in routes.items() if isinstance(route, Proxied)},
        ports={port: peers.upstream for port, peers in found.items() if peers is not None},
        fingerprint=loaded.fingerprint,
    )


def serve(text: str, resolve: Callable[[str], Sequence[str]]) -> Served:
    """Load a text. Raises Refused, as for a name that does not resolve."""
    means = meaning(text)
    loaded: Loaded = load(text, resolve)
    used = means.used
    return Served(
        text,
        means,
        tuple(
            (peers.upstream, tuple(p.address for p in peers.live), tuple(p.address for p in peers.backups))
            for peers in loaded.upstreams
            if peers.upstream in used
        ),
    )
