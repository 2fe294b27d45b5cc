"""The grammar of every string that reaches nginx's configuration: an allow-list per field (FAULTS 51).

No field may hold white space, quotes, backslash, `$`, `;`, `#`, `%` or braces, so that nothing needs escaping.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.errors import Stalled
from reconciler.model.routes import NginxConfig

WORD = re.compile(r"[A-Za-z0-9_.:/~*+=-]+")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,199}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"_|(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_PATH = re.compile(r"(?:/[A-Za-z0-9_~.-]+)*/?")
_SERVICE = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,252}|\[[0-9a-f:]+\]):(\d{1,5})")


def refuse_unsafe(config: NginxConfig) -> None:
    """Raise Stalled for the first field of the configuration that is outside its grammar or at odds with another one."""
    for problem in _problems(config):
        raise Stalled(f"nginx configuration of {config.name!r}: {problem}", reason="UnsafeValue")


def _problems(config: NginxConfig) -> Iterator[str]:
    yield from _outside(_NAME, "name", config.name)
    ports = [config.generation_port, *config.http_ports, *(listener.port for listener in config.listeners)]
    for port in ports:
        if not 0 < port < 65536:
            yield f"port {port} is not between 1 and 65535"
        if ports.count(port) > 1:
            yield f"port {port} is listened on twice; every listener needs a port of its own"
    if config.shutdown_timeout <= 0:
        yield f"shutdown timeout is {config.shutdown_timeout}; expected seconds above 0"
    names = [upstream.name for upstream in config.upstreams]
    for upstream in config.upstreams:
        yield from _outside(_NAME, "upstream", upstream.name)
        if names.count(upstream.name) > 1:
            yield f"upstream {upstream.name} is given twice"
        for peer in upstream.peers:
            match = _ADDRESS.fullmatch(peer.address)
            if match is None or not 0 < int(match[1]) < 65536:
                yield f"peer {peer.address!r} of upstream {upstream.name} is not name:port or address:port"
            if peer.weight < 1:
                yield f"weight {peer.weight} of peer {peer.address} is below 1; leave such a peer out"
    for listener in config.listeners:
        if listener.upstream not in names:
            yield f"listener {listener.port} leads to upstream {listener.upstream!r}, which is not given"
    yield from _route_problems(config, names)


def _route_problems(config: NginxConfig, names: list[str]) -> Iterator[str]:
    seen = set()
    for route in config.routes:
        yield from _outside(_HOST, "host", route.host)
        yield from _outside(_SERVICE, "service", route.service)
        for field, path in (("path", route.path), ("rewrite", route.rewrite or "/")):
            if not path.startswith("/") or any(segment in (".", "..") for segment in path.split("/")):
                yield f"{field} {path!r} does not begin with / or climbs"
            yield from _outside(_PATH, field, path)
        if route.upstream is not None and route.upstream not in names:
            yield f"route {route.host}{route.path} leads to upstream {route.upstream!r}, which is not given"
        if route.read_timeout <= 0 or route.body_limit < 0:
            yield f"route {route.host}{route.path}: read_timeout must be above 0 and body_limit not below 0"
        place = (route.host, route.path.rstrip("/"))
        if place in seen:
            yield f"route {route.host}{route.path} is given twice; only one service can have it"
        seen.add(place)


def _outside(grammar: re.Pattern[str], field: str, value: str) -> Iterator[str]:
    if not grammar.fullmatch(value):
        yield f"{field} {value!r} has characters that are not allowed there; expected {grammar.pattern}"
