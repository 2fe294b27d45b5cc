"""What an nginx does with the text it has loaded, as far as traffic goes: read from the text alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_UPSTREAM = re.compile(r"^    upstream (\S+) \{\n(.*?)^    \}$", re.MULTILINE | re.DOTALL)
_PEER = re.compile(r"^        server (\S+?)(?: weight=\d+)? max_fails=0( backup)?;$", re.MULTILINE)
_FINGERPRINT = re.compile(r'return 200 "(\w*)";')
_HTTP_SERVER = re.compile(r"^    server \{\n(.*?)^    \}$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"server_name (\S+);")
_PASS = re.compile(r"proxy_pass (?:http://)?(\w+)")
_LISTEN = re.compile(r"listen 127\.0\.0\.1:(\d+);")


@dataclass(frozen=True)
class Group:
    """One upstream: the addresses (`host:port`) that it sends to, and those it falls back to."""

    name: str
    live: tuple[str, ...]
    backup: tuple[str, ...]


@dataclass(frozen=True)
class Served:
    """The upstreams; which of them the text uses, by public host and by loopback port; and the fingerprint it answers."""

    groups: tuple[Group, ...]
    hosts: dict[str, str]
    ports: dict[int, str]
    fingerprint: str

    @property
    def used(self) -> frozenset[str]:
        """The names of upstreams that something leads to."""
        return frozenset({*self.hosts.values(), *self.ports.values()})


@lru_cache(maxsize=4096)
def served(text: str) -> Served:
    """Read a rendered text."""
    groups = []
    for name, body in _UPSTREAM.findall(text):
        peers = _PEER.findall(body)
        live = tuple(address for address, backup in peers if not backup)
        groups.append(Group(name, live, tuple(address for address, backup in peers if backup)))
    fingerprint = _FINGERPRINT.search(text)
    assert fingerprint is not None, text
    hosts, ports = {}, {}
    for body in _HTTP_SERVER.findall(text):
        listen, name, target = _LISTEN.search(body), _NAME.search(body), _PASS.search(body)
        if listen is not None and target is not None:
            ports[int(listen[1])] = target[1]
        elif name is not None and target is not None:
            hosts[name[1]] = target[1]
    return Served(tuple(groups), hosts, ports, fingerprint[1])
