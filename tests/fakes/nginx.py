"""nginx, interpreted from the text that `reconciler.render` wrote: where a request or a connection would go.

`tests/contract/test_nginx_contract.py` holds it equal to the real nginx. `load` is what a (re)load does with a text; a running
master with its old workers is in `tests.fakes.nginx_process`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from tests.fakes.nginx_parsed import Listen, Location, Parsed, Peer, Server, expanded
from tests.fakes.nginx_text import NotInterpreted, Refused, parse

__all__ = ["Listen", "Loaded", "NotInterpreted", "Peer", "Peers", "Proxied", "Refused", "Resolve", "Returned", "load"]

Resolve = Callable[[str], Sequence[str]]  # a host name -> its addresses; none when it is unknown
Accepts = Callable[["Peer"], bool]

# What nginx leaves as it is when it writes a decoded path into a request line (ngx_escape_uri, NGX_ESCAPE_URI).
_LEFT_ALONE = frozenset(range(0x21, 0x7F)) - frozenset(b'"#%<>?\\^`{|}')


@dataclass(frozen=True)
class Peers:
    """An upstream's servers. Nobody is ever ejected (`max_fails=0`): each try asks afresh."""

    upstream: str
    live: tuple[Peer, ...]
    backups: tuple[Peer, ...]

    @property
    def ordered(self) -> tuple[Peer, ...]:
        """The live ones, then the backups."""
        return self.live + self.backups

    def reached(self, accepts: Accepts) -> tuple[Peer, ...]:
        """Those among which a connection ends up: the live ones that accept, else the backups that do, else nobody."""
        return tuple(peer for peer in self.live if accepts(peer)) or tuple(peer for peer in self.backups if accepts(peer))


@dataclass(frozen=True)
class Proxied:
    """A request goes to one of `peers`, with `uri` on its request line. `read_timeout` in seconds."""

    peers: Peers
    uri: str
    service: str
    read_timeout: float


@dataclass(frozen=True)
class Returned:
    """nginx answers by itself."""

    status: int
    body: str
    service: str = "-"


class Loaded:
    """A configuration as a worker has it: names are resolved, once."""

    def __init__(self, text: str, parsed: Parsed, http: Mapping[str, Peers], stream: Mapping[str, Peers]) -> None:
        self.text = text
        self.http = http
        self.streams = stream
        self._parsed = parsed

    @property
    def fingerprint(self) -> str | None:
        """What the generation endpoint answers."""
        for listen in self._parsed.http_listens:
            if listen.address == "127.0.0.1":
                answer = self.route("_", "/", port=listen.port)
                return answer.body if isinstance(answer, Returned) and answer.status == 200 else None
        return None

    @property
    def shutdown_timeout(self) -> float:
        """`worker_shutdown_timeout` in seconds: an old worker's connections are cut after that."""
        return self._parsed.shutdown_timeout

    @property
    def header_timeout(self) -> float:
        """`client_header_timeout` in seconds: for so long a connection that says nothing is kept, by an old worker too."""
        return self._parsed.header_timeout

    @property
    def listens(self) -> frozenset[Listen]:
        """The sockets that it binds."""
        return frozenset(self._parsed.http_listens) | {Listen("127.0.0.1", port) for port in self._parsed.streams}

    @property
    def upstreams(self) -> tuple[Peers, ...]:
        """Every upstream, of http and of stream."""
        return (*self.http.values(), *self.streams.values())

    @property
    def stream_ports(self) -> tuple[int, ...]:
        """The ports of the mesh, on 127.0.0.1."""
        return tuple(self._parsed.streams)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the public servers as they are written, `_` too."""
        return tuple(name for server in self._parsed.servers if server.public for name in server.names)

    def stream(self, port: int) -> Peers | None:
        """Where a connection to 127.0.0.1:`port` goes; None when nothing listens there."""
        upstream = self._parsed.streams.get(port)
        return None if upstream is None else self.streams[upstream]

    def route(self, host: str, target: str = "/", *, port: int | None = None, websocket: bool = False) -> Proxied | Returned | None:
        """What becomes of a request for `target` (path and query as a client writes them) on the lowest public port, or another.

        None when nothing listens there. A `websocket` asks for an upgrade.
        """
        ports = [listen.port for listen in self._parsed.http_listens if listen.address == "*"]
        wanted = port if port is not None else min(ports, default=None)
        servers = [server for server in self._parsed.servers if wanted in server.ports]
        if not servers:
            return None
        path = _normal(target)
        if path is None:
            return Returned(400, "")
        server = _by_name(servers, host.lower().rpartition(":")[0] or host.lower())
        location = _by_path(server.locations, path)
        if location is None:
            return Returned(404, "")
        if websocket and location.upgraded is not None:
            location = server.named[location.upgraded]
        service = location.service or server.service
        if location.returns is not None:
            status, body = location.returns
            return Returned(status, body.replace("$service", service), service)
        if location.upstream is None:
            return Returned(404, "", service)
        uri = self._uri(location, path, target)
        return Proxied(self.http[location.upstream], uri, service, location.read_timeout)

    def _uri(self, location: Location, path: str, target: str) -> str:
        """The request line's URI at the backend: as the client wrote it, unless a rewrite changed it."""
        if location.variable is not None and (raw := self._parsed.maps[location.variable](target)):
            return raw
        if location.rewrite is not None:
            pattern, replacement = location.rewrite
            match = pattern.search(path)
            if match is not None:
                query = "?" + target.partition("?")[2] if "?" in target else ""
                return _escaped(expanded(replacement, match)) + query
        return target


@lru_cache(maxsize=4096)
def _read(text: str) -> Parsed:
    return Parsed(parse(text))


def load(text: str, resolve: Resolve) -> Loaded:
    """What nginx makes of a text. Raises Refused with its words, as for a name that does not resolve."""
    parsed = _read(text)
    groups = []
    for context in (parsed.http_groups, parsed.stream_groups):
        groups.append({name: _resolved(name, peers, resolve) for name, peers in context.items()})
    return Loaded(text, parsed, *groups)


def _resolved(upstream: str, peers: tuple[Peer, ...], resolve: Resolve) -> Peers:
    found: list[Peer] = []
    for peer in peers:
        if peer.address:
            found.append(peer)
            continue
        host, _, port = peer.name.rpartition(":")
        addresses = resolve(host)
        if not addresses:
            raise Refused(f'[emerg] host not found in upstream "{peer.name}"')
        found.extend(Peer(peer.name, f"{address}:{port}", peer.backup, peer.weight) for address in addresses)
    return Peers(upstream, tuple(p for p in found if not p.backup), tuple(p for p in found if p.backup))


def _by_name(servers: Sequence[Server], host: str) -> Server:
    """An exact name, then the longest `*.` suffix, then the default server."""
    host = host.rstrip(".")
    for server in servers:
        if host in server.names:
            return server
    suffixes = [(len(name), server) for server in servers for name in server.names if name[:2] == "*." and host.endswith(name[1:])]
    if suffixes:
        return max(suffixes, key=lambda pair: pair[0])[1]
    return next((server for server in servers if server.default), servers[0])


def _by_path(locations: Sequence[Location], path: str) -> Location | None:
    """The exact location, else the longest prefix."""
    best = None
    for location in locations:
        if location.exact:
            if location.path == path:
                return location
        elif path.startswith(location.path) and (best is None or len(location.path) > len(best.path)):
            best = location
    return best


def _normal(target: str) -> str | None:
    """The path as locations are compared with it: decoded, slashes merged, dots resolved. None: nginx answers 400.

    One character per byte, as nginx compares bytes.
    """
    raw = target.partition("#")[0].partition("?")[0]
    if not raw.startswith("/") or re.search(r"%(?![0-9A-Fa-f]{2})", raw):
        return None
    decoded = unquote_to_bytes(raw).decode("latin-1")
    if "\0" in decoded:
        return None
    kept: list[str] = []
    segments = re.split("/+", decoded)[1:]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == "..":
            if not kept:
                return None
            kept.pop()
        elif segment != ".":
            kept.append(segment)
            continue
        if last:
            kept.append("")
    return "/" + "/".join(kept)


def _escaped(path: str) -> str:
    return "".join(chr(byte) if byte in _LEFT_ALONE else f"%{byte:02X}" for byte in path.encode("latin-1"))
