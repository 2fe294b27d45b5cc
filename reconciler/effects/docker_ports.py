"""Which TCP ports of this server somebody listens on, as the kernel tells (FAULTS 12)."""

from __future__ import annotations

import ipaddress
import os
import struct
from contextlib import suppress
from typing import Final

_LISTEN: Final = "0A"


def ports_in_use(address: str, besides: int = 0) -> frozenset[int]:
    """Ports that cannot be bound on `address`: listened on there or on all addresses.

    besides: a process whose own sockets do not count, by its id; 0 for none.
    """
    wanted = ipaddress.ip_address(address)
    own = _sockets(besides) if besides else frozenset()
    ports: set[int] = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                rows = lines.read().splitlines()[1:]
        except OSError:
            continue  # without IPv6 there is no second table
        for row in rows:
            local, state, inode = (row.split()[column] for column in (1, 3, 9))
            host, _, port = local.partition(":")
            if state == _LISTEN and inode not in own and _covers(kernel_address(host), wanted):
                ports.add(int(port, 16))
    return frozenset(ports)


def kernel_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as /proc/net/tcp{,6} writes it: 32-bit words in the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    found = ipaddress.ip_address(packed)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _sockets(pid: int) -> frozenset[str]:
    """The inodes of a process's sockets; none when it is gone."""
    found = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.add(os.readlink(entry.path).removeprefix("socket:[").removesuffix("]"))
    return frozenset(found)


def _covers(
    listening: ipaddress.IPv4Address | ipaddress.IPv6Address, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> bool:
    return listening == wanted or listening.is_unspecified
