"""nginx, interpreted from the text that `reconciler.render` wrote: where a request or a connection would go.

`tests/contract/test_nginx_contract.py` holds it equal to the real nginx. `load` is what a (re)load does with a text; a running
master with its old workers is in `tests.fakes.nginx_process`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from tests.fakes.nginx_text import Block, NotInterpreted, Refused, parse, seconds

__all__ = ["Listen", "Loaded", "NotInterpreted", "Peer", "Peers", "Proxied", "Refused", "Resolve", "Returned", "load"]

Resolve = Callable[[str], Sequence[str]]  # a host name -> its addresses; none when it is unknown
Accepts = Callable[["Peer"], bool]

_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:]+\]")
# What nginx leaves as it is when it writes a decoded path into a request line (ngx_escape_uri, NGX_ESCAPE_URI).
_LEFT_ALONE = frozenset(range(0x21, 0x7F)) - frozenset(b'"#%<>?\\^`{|}')


@dataclass(frozen=True)
class Peer:
    """A server of an upstream. `name` as it is written (`host:port`), `address` what that meant when it was loaded (`ip:port`)."""

    name: str
    address: str
    backup: bool = False
    weight: int = 1


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


@dataclass(frozen=True)
class Listen:
    """A socket: `address` is `*` for all."""

    address: str
    port: int


class Loaded:
    """A configuration as a worker has it: names are resolved, once."""

    def __init__(self, text: str, parsed: _Parsed, http: Mapping[str, Peers], stream: Mapping[str, Peers]) -> None:
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

    def _uri(self, location: _Location, path: str, target: str) -> str:
        """The request line's URI at the backend: as the client wrote it, unless a rewrite changed it."""
        if location.variable is not None and (raw := self._parsed.maps[location.variable](target)):
            return raw
        if location.rewrite is not None:
            pattern, replacement = location.rewrite
            match = pattern.search(path)
            if match is not None:
                query = "?" + target.partition("?")[2] if "?" in target else ""
                return _escaped(_expanded(replacement, match)) + query
        return target


@lru_cache(maxsize=4096)
def _read(text: str) -> _Parsed:
    return _Parsed(parse(text))


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


@dataclass(frozen=True)
class _Location:
    """`exact` is a `=` location. `variable` holds the URI for the backend, where it is not empty."""

    path: str
    exact: bool
    service: str | None
    returns: tuple[int, str] | None
    upgraded: str | None
    rewrite: tuple[re.Pattern[str], str] | None
    upstream: str | None
    variable: str | None
    read_timeout: float


@dataclass(frozen=True)
class _Server:
    """A virtual host. `public`: it listens on more than loopback."""

    ports: tuple[int, ...]
    names: tuple[str, ...]
    default: bool
    public: bool
    service: str
    locations: tuple[_Location, ...]
    named: Mapping[str, _Location]


class _Parsed:
    """A text's meaning, before names are resolved (the addresses of names are empty)."""

    def __init__(self, root: Block) -> None:
        http = next(iter(root.all("http")), Block(("http",)))
        stream = next(iter(root.all("stream")), Block(("stream",)))
        self.shutdown_timeout = seconds(root.one("worker_shutdown_timeout") or "0")
        self.header_timeout = seconds(http.one("client_header_timeout") or "60s")
        self._zones: set[str] = set()
        self.http_groups = dict(self._upstreams(http))
        self.stream_groups = dict(self._upstreams(stream))
        self.maps = {block.words[2].removeprefix("$"): _map(block) for block in http.all("map") if block.words[1] == "$request_uri"}
        self.servers = tuple(self._server(block) for block in http.all("server"))
        self.http_listens = tuple(dict.fromkeys(listen for block in http.all("server") for listen in _listens(block)))
        self.streams = self._listeners(stream)
        self._tries(http, "error timeout", needed=any(server.public for server in self.servers))
        self._tries(stream, "on", needed=bool(self.streams))

    def _tries(self, context: Block, expected: str, *, needed: bool) -> None:
        """`Peers.reached` is true only while a failed connect goes on to the next server."""
        written = " ".join(word for block in context.all("proxy_next_upstream") for word in block.words[1:])
        if needed and written != expected:
            raise NotInterpreted(f"proxy_next_upstream in {context.name} is {written!r}; known here is {expected!r}")

    def _upstreams(self, context: Block) -> Iterator[tuple[str, tuple[Peer, ...]]]:
        seen = set()
        for block in context.all("upstream"):
            name = block.words[1]
            if name in seen:
                raise Refused(f'[emerg] duplicate upstream "{name}"')
            seen.add(name)
            peers = tuple(_peer(server) for server in block.all("server"))
            if not peers:
                raise Refused(f'[emerg] no servers are inside upstream in "{name}"')
            if all(peer.backup for peer in peers):
                raise Refused(f'[emerg] no servers in upstream "{name}"')
            for zone in block.all("zone"):
                if zone.words[1] in self._zones:
                    raise Refused(f'[emerg] the shared memory zone "{zone.words[1]}" is already declared')
                self._zones.add(zone.words[1])
            yield name, peers

    def _server(self, block: Block) -> _Server:
        listens = _listens(block)
        named: dict[str, _Location] = {}
        locations: list[_Location] = []
        for inner in block.all("location"):
            location = self._location(inner)
            if location.path.startswith("@"):
                named[location.path] = location
                continue
            if any((other.path, other.exact) == (location.path, location.exact) for other in locations):
                raise Refused(f'[emerg] duplicate location "{location.path}"')
            locations.append(location)
        return _Server(
            ports=tuple(listen.port for listen in listens),
            names=tuple(block.all("server_name")[0].words[1:]),
            default=any("default_server" in listen.words for listen in block.all("listen")),
            public=any(listen.address == "*" for listen in listens),
            service=_service(block) or "-",
            locations=tuple(locations),
            named=named,
        )

    def _location(self, block: Block) -> _Location:
        exact = block.words[1] == "="
        upgraded = None
        for condition in block.all("if"):
            answers = [inner.words for inner in condition.inside]
            if condition.words[1:] != ("($websocket)",) or answers != [("return", "418")]:
                raise NotInterpreted(f"the condition {condition.words} is not known here")
            (page,) = block.all("error_page")
            if page.words[1:3] != ("418", "="):
                raise NotInterpreted(f"the error page {page.words} is not known here")
            upgraded = page.words[3]
        returns = [inner.words for inner in block.all("return")]
        passed, variable = block.one("proxy_pass"), None
        if passed is not None:
            passed, _, variable = passed.removeprefix("http://").partition("$")
            if passed not in self.http_groups:
                raise Refused(f'[emerg] host not found in upstream "{passed}"')
        rewrites = [inner.words for inner in block.all("rewrite")]
        if any(words[3:] != ("break",) for words in rewrites) or len(rewrites) > 1:
            raise NotInterpreted(f"the rewrites {rewrites} are not known here")
        return _Location(
            path=block.words[-1],
            exact=exact,
            service=_service(block),
            returns=(int(returns[0][1]), returns[0][2]) if returns else None,
            upgraded=upgraded,
            rewrite=(re.compile(rewrites[0][1]), rewrites[0][2]) if rewrites else None,
            upstream=passed,
            variable=variable or None,
            read_timeout=seconds(block.one("proxy_read_timeout") or "60s"),
        )

    def _listeners(self, stream: Block) -> dict[int, str]:
        found: dict[int, str] = {}
        for block in stream.all("server"):
            address, _, port = (block.one("listen") or "").partition(":")
            upstream = block.one("proxy_pass") or ""
            if address != "127.0.0.1" or upstream not in self.stream_groups:
                raise NotInterpreted(f"the stream server {block} is not known here")
            found.setdefault(int(port), upstream)  # the first is the default server of its port
        taken = {listen.port for listen in self.http_listens} & found.keys()
        if taken:
            raise Refused(f"[emerg] bind() to 127.0.0.1:{min(taken)} failed (98: Address already in use)")
        return found


def _listens(server: Block) -> list[Listen]:
    found = []
    for block in server.all("listen"):
        address, _, port = block.words[1].rpartition(":")
        found.append(Listen(address or "*", int(port)))
    return found


def _peer(block: Block) -> Peer:
    name, *options = block.words[1:]
    weight = 1
    for option in options:
        if option.startswith("weight="):
            weight = int(option.removeprefix("weight="))
        elif option not in ("backup", "max_fails=0"):
            raise NotInterpreted(f"the option {option!r} of {name} is not known here")
    if "max_fails=0" not in options:
        raise NotInterpreted(f"{name} can be ejected; only max_fails=0 is known here")
    address = name if _ADDRESS.fullmatch(name.rpartition(":")[0]) else ""
    return Peer(name, address, "backup" in options, weight)


def _service(block: Block) -> str | None:
    found = [inner.words[2] for inner in block.all("set") if inner.words[1] == "$service"]
    if len(found) != len(block.all("set")):
        raise NotInterpreted(f"{block.words} sets a variable that is not known here")
    return found[-1] if found else None


def _map(block: Block) -> Callable[[str], str]:
    """A map of the request line's URI."""
    default = ""
    patterns: list[tuple[re.Pattern[str], str]] = []
    for line in block.inside:
        source, value = line.words
        if source == "default":
            default = value
        elif source.startswith("~") and not source.startswith("~*"):
            patterns.append((re.compile(source[1:]), value))
        else:
            raise NotInterpreted(f"the line {line.words} of a map is not known here")

    def found(uri: str) -> str:
        for pattern, value in patterns:
            if match := pattern.search(uri):
                return _expanded(value, match)
        return default

    return found


def _expanded(replacement: str, match: re.Match[str]) -> str:
    return re.sub(r"\$(\d)", lambda group: match[int(group[1])] or "", replacement)


def _by_name(servers: Sequence[_Server], host: str) -> _Server:
    """An exact name, then the longest `*.` suffix, then the default server."""
    host = host.rstrip(".")
    for server in servers:
        if host in server.names:
            return server
    suffixes = [(len(name), server) for server in servers for name in server.names if name[:2] == "*." and host.endswith(name[1:])]
    if suffixes:
        return max(suffixes, key=lambda pair: pair[0])[1]
    return next((server for server in servers if server.default), servers[0])


def _by_path(locations: Sequence[_Location], path: str) -> _Location | None:
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
