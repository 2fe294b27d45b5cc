"""What the templates of an nginx configuration are given: the model with every derived name, pattern and order worked out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.model.routes import Listener, NginxConfig, Peer, Route
from reconciler.render.words import refuse_unsafe

PEERS_PER_ZONE = 32  # 64k hold about twice as many


@dataclass(frozen=True)
class Group:
    """An upstream block. A zone's name changes with its size, as nginx refuses to load another size under the same name."""

    name: str
    zone: str
    zone_size: str
    peers: tuple[Peer, ...]


@dataclass(frozen=True, order=True)
class Rewrite:
    """A prefix replaced by another one.

    `pattern`, `replacement`: nginx's rewrite of the decoded path, which it encodes again. `raw_pattern`, `raw_replacement`: the
    same on the request line as the client wrote it, into the variable; where that is empty nginx sends the rewritten path.
    """

    variable: str
    pattern: str
    replacement: str
    raw_pattern: str
    raw_replacement: str


@dataclass(frozen=True)
class Place:
    """One route: `locations` are nginx's location arguments, `websocket` the name of its location for upgraded connections."""

    locations: tuple[str, ...]
    websocket: str
    service: str
    upstream: str | None
    rewrite: Rewrite | None
    read_timeout: float
    body_limit: int


@dataclass(frozen=True)
class Server:
    """One virtual host. `root`: one of the routes takes every path."""

    host: str
    default: bool
    routes: tuple[Place, ...]
    root: bool


@dataclass(frozen=True)
class Wired:
    """The whole configuration, sorted, without anything that leads nowhere."""

    name: str
    kind: str
    workers: int
    connections: int
    shutdown_timeout: float
    generation_port: int
    http_ports: tuple[int, ...]
    http_upstreams: tuple[Group, ...]
    stream_upstreams: tuple[Group, ...]
    listeners: tuple[Listener, ...]
    servers: tuple[Server, ...]
    rewrites: tuple[Rewrite, ...]


def wire(config: NginxConfig) -> Wired:
    """Work out what is rendered. Raises Stalled for unsafe values.

    A listener to an upstream without peers is left out, a route to one answers 503. An upstream whose peers are all backups gets
    them as its live peers, as nginx does not load one of backups only.
    """
    refuse_unsafe(config)
    peers = {upstream.name: _peers(upstream.peers) for upstream in config.upstreams if upstream.peers}
    listeners = tuple(sorted((item for item in config.listeners if item.upstream in peers), key=lambda item: item.port))
    routes = [route if route.upstream in peers else route.model_copy(update={"upstream": None}) for route in config.routes]
    public = bool(config.http_ports)
    rewrites = {rewrite for route in routes if route.upstream and (rewrite := _rewrite(route))}
    return Wired(
        name=config.name,
        kind=config.kind,
        workers=2 if config.kind == "edge" else 1,
        connections=8192 if config.kind == "edge" else 2048,
        shutdown_timeout=config.shutdown_timeout,
        generation_port=config.generation_port,
        http_ports=tuple(sorted(config.http_ports)),
        http_upstreams=_groups("http", peers, (route.upstream for route in routes if public)),
        stream_upstreams=_groups("stream", peers, (listener.upstream for listener in listeners)),
        listeners=listeners,
        servers=_servers(routes) if public else (),
        rewrites=tuple(sorted(rewrites)),
    )


def _peers(peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
    live = {peer.address: peer for peer in peers if not peer.backup}
    if not live:
        live = {peer.address: peer.model_copy(update={"backup": False}) for peer in peers}
    backups = {peer.address: peer for peer in peers if peer.backup and peer.address not in live}
    return tuple(group[address] for group in (live, backups) for address in sorted(group))


def _groups(context: str, peers: dict[str, tuple[Peer, ...]], used: Iterable[str | None]) -> tuple[Group, ...]:
    groups = []
    for name in sorted({name for name in used if name is not None}):
        size = f"{64 * -(-len(peers[name]) // PEERS_PER_ZONE)}k"
        zone = f"{name}_{_short_hash(context, name, size)}"
        groups.append(Group(name=name, zone=zone, zone_size=size, peers=peers[name]))
    return tuple(groups)


def _servers(routes: list[Route]) -> tuple[Server, ...]:
    """A server block per host, `_` (the default server, always there) first; its routes by path, longest first."""
    ordered = sorted(routes, key=lambda route: (route.host, -len(route.path.rstrip("/")), route.path))
    by_host = {"_": tuple[Place, ...]()}
    for host, group in itertools.groupby(ordered, key=lambda route: route.host):
        by_host[host] = tuple(_place(route) for route in group)
    return tuple(
        Server(host=host, default=host == "_", routes=by_host[host], root=any(place.locations == ("/",) for place in by_host[host]))
        for host in sorted(by_host, key=lambda host: (host != "_", host))
    )


def _place(route: Route) -> Place:
    prefix = route.path.rstrip("/")
    return Place(
        locations=(f"= {prefix}", f"{prefix}/") if prefix else ("/",),
        websocket=f"websocket_{_short_hash(route.host, prefix)}",
        service=route.service,
        upstream=route.upstream,
        rewrite=_rewrite(route),
        read_timeout=route.read_timeout,
        body_limit=route.body_limit,
    )


def _rewrite(route: Route) -> Rewrite | None:
    prefix, target = route.path.rstrip("/"), (route.rewrite or route.path).rstrip("/")
    if prefix == target:
        return None
    literal = prefix.replace(".", "[.]")
    climbs = "(?![^?]*(?:[.]|%2[Ee])(?:[.]|%2[Ee]))"
    return Rewrite(
        variable=f"raw_{_short_hash(prefix, target)}",
        pattern=f"^{literal}(/.*)?$" if target else f"^{literal}/?(.*)$",
        replacement=f"{target}$1" if target else "/$1",
        raw_pattern=f"~^{literal}{climbs}(/.*)$",
        raw_replacement=f"{target}$1",
    )


def _short_hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
