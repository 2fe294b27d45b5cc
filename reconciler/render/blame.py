"""Whose part of a rendered text nginx complains of: its line names a place in the text, or an address, and the text is ours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from reconciler.errors import Stalled
from reconciler.model.routes import NginxConfig, Peer
from reconciler.render.nginx import render
from reconciler.render.parsed import directives

_PLACE = re.compile(r" in \S+:(\d+)$")
_BIND = re.compile(r"bind\(\) to 127\.0\.0\.1:(\d+) failed")
_HOST = re.compile(r'host not found in upstream "([^"]+)"')
_ZONE = re.compile(r'zone "([^"]+)"')
_UPSTREAM = re.compile(r"upstream (\S+) \{|proxy_pass (?:http://)?([a-z0-9][a-z0-9_-]*)|set \$service ([a-z0-9/-]+/[a-z0-9/-]+);")


@dataclass(frozen=True)
class Blame:
    """An upstream's peers, or one of its listeners (`port`), as the cause of a refusal."""

    upstream: str
    kind: Literal["upstream", "listener"]
    port: int = 0


def blame(config: NginxConfig, text: str, line: str) -> Blame | None:
    """What in `text`, which `config` was rendered to, nginx's own `line` speaks of; None when it is not one service's."""
    if bound := _BIND.search(line):
        port = int(bound[1])
        found = next((listener for listener in config.listeners if listener.port == port), None)
        return Blame(found.upstream, "listener", port) if found is not None else None
    name = None
    if zone := _ZONE.search(line):
        name = _around(text, next((n for n, row in enumerate(text.splitlines()) if row.split()[:2] == ["zone", zone[1]]), None))
    if name is None and (place := _PLACE.search(line)):
        name = _around(text, int(place[1]) - 1)
    if name is None and (host := _HOST.search(line)):
        listing = {u.name for u in config.upstreams if any(host[1] in (p.address, p.address.rpartition(":")[0]) for p in u.peers)}
        name = listing.pop() if len(listing) == 1 else None
    return Blame(name, "upstream") if name in {upstream.name for upstream in config.upstreams} else None


def unwritable(config: NginxConfig) -> dict[str, str]:
    """Upstreams whose parts cannot be rendered, each by itself, with the reason: for a configuration that `render` refuses."""
    found = {}
    routed = {route.service.replace("/", "_") for route in config.routes}
    for name in sorted({*(upstream.name for upstream in config.upstreams), *routed}):
        alone = config.model_copy(
            update={
                "upstreams": tuple(upstream for upstream in config.upstreams if upstream.name == name),
                "listeners": tuple(listener for listener in config.listeners if listener.upstream == name),
                "routes": tuple(route for route in config.routes if route.service.replace("/", "_") == name),
            }
        )
        try:
            render(alone)
        except Stalled as error:
            found[name] = str(error)
    return found


def loaded_peers(name: str, text: str) -> dict[str, tuple[Peer, ...]]:
    """The peers of each upstream in a text that was rendered before. Raises Stalled when it is not such a text."""
    found: dict[str, tuple[Peer, ...]] = {}
    for path, words in directives(name, text):
        inside = path[-1].split() if path else []
        if words[0] == "server" and inside[:1] == ["upstream"]:
            weight = next((int(word.removeprefix("weight=")) for word in words if word.startswith("weight=")), 1)
            peer = Peer(address=words[1], backup="backup" in words, weight=weight)
            found[inside[1]] = (*found.get(inside[1], ()), peer)
    return found


def _around(text: str, index: int | None) -> str | None:
    """The upstream that the innermost blocks around a line, from within outwards, speak of."""
    rows = text.splitlines()
    if index is None or not 0 <= index < len(rows):
        return None
    first = last = index
    if rows[index].endswith("{"):
        last = next(n for n in range(index + 1, len(rows)) if rows[n].strip() and _indent(rows[n]) <= _indent(rows[index]))
    while (indent := _indent(rows[first])) > 0:
        names = {
            match[1] or match[2] or match[3].replace("/", "_")
            for row in rows[first : last + 1]
            if (match := _UPSTREAM.search(row)) is not None
        }
        if names:
            return names.pop() if len(names) == 1 else None
        first, last = _enclosing(rows, first, indent)
    return None


def _enclosing(rows: list[str], index: int, indent: int) -> tuple[int, int]:
    """First and last row of the block that a row stands in: what our templates indent less."""
    first = next((n for n in range(index - 1, -1, -1) if rows[n].strip() and _indent(rows[n]) < indent), 0)
    last = next((n for n in range(index + 1, len(rows)) if rows[n].strip() and _indent(rows[n]) < indent), len(rows) - 1)
    return first, last


def _indent(row: str) -> int:
    return len(row) - len(row.lstrip(" "))
