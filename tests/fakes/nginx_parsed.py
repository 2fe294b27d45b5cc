"""What a text of nginx's means, before its names are resolved. `tests.fakes.nginx` answers from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.fakes.nginx_text import Block, NotInterpreted, Refused, seconds

_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:]+\]")


@dataclass(frozen=True)
class Peer:
    """A server of an upstream. `name` as it is written (`host:port`), `address` what that meant when it was loaded (`ip:port`)."""

    name: str
    address: str
    backup: bool = False
    weight: int = 1


@dataclass(frozen=True)
class Listen:
    """A socket: `address` is `*` for all."""

    address: str
    port: int


@dataclass(frozen=True)
class Location:
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
class Server:
    """A virtual host. `public`: it listens on more than loopback."""

    ports: tuple[int, ...]
    names: tuple[str, ...]
    default: bool
    public: bool
    service: str
    locations: tuple[Location, ...]
    named: Mapping[str, Location]


class Parsed:
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

    def _server(self, block: Block) -> Server:
        listens = _listens(block)
        named: dict[str, Location] = {}
        locations: list[Location] = []
        for inner in block.all("location"):
            location = self._location(inner)
            if location.path.startswith("@"):
                named[location.path] = location
                continue
            if any((other.path, other.exact) == (location.path, location.exact) for other in locations):
                raise Refused(f'[emerg] duplicate location "{location.path}"')
            locations.append(location)
        return Server(
            ports=tuple(listen.port for listen in listens),
            names=tuple(block.all("server_name")[0].words[1:]),
            default=any("default_server" in listen.words for listen in block.all("listen")),
            public=any(listen.address == "*" for listen in listens),
            service=_service(block) or "-",
            locations=tuple(locations),
            named=named,
        )

    def _location(self, block: Block) -> Location:
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
        return Location(
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
                return expanded(value, match)
        return default

    return found


def expanded(replacement: str, match: re.Match[str]) -> str:
    return re.sub(r"\$(\d)", lambda group: match[int(group[1])] or "", replacement)
