"""Which TCP ports of this server somebody listens on, as the kernel tells (FAULTS 12)."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTEN: Final = "0A"
# linux/netlink.h, sock_diag.h, tcp_states.h
_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST, _DUMP = 0x01, 0x300
_ERROR, _DONE = 2, 3
_LISTEN_STATE: Final = 10
_ANSWER_BYTES: Final = 1 << 16
_ANSWER_SECONDS: Final = 5.0


def ports_in_use(address: str, besides: int = 0) -> frozenset[int]:
    """Ports that cannot be bound on `address`: listened on there or on all addresses.

    besides: a process whose own sockets do not count, by its id; 0 for none.
    """
    wanted = ipaddress.ip_address(address)
    own = _sockets(besides) if besides else frozenset()
    return frozenset(found.port for found in listeners() if found.inode not in own and _covers(found.address, wanted))


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket of this network namespace. An IPv4 address that was mapped into IPv6 is shown as IPv4."""

    address: Address
    port: int
    inode: str


def listeners() -> list[Listener]:
    """Every listening socket. The kernel is asked for these alone: its tables in /proc have every connection, too, and with tens of
    thousands of them (ended ones of a busy server count for a minute) reading them takes it seconds."""
    try:
        return list_by_netlink()
    except OSError:
        return list_by_proc()  # a kernel without socket diagnosis


def list_by_netlink() -> list[Listener]:
    """By sock_diag(7), whose structures these are. Raises OSError where the kernel lacks it."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(_ANSWER_SECONDS)
            request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << _LISTEN_STATE)
            kernel.send(struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, 1, 0) + request)
            found += list(_answers(kernel))
    return found


def _answers(kernel: socket.socket) -> Iterator[Listener]:
    """Until the message that says that this was all."""
    while True:
        data = memoryview(kernel.recv(_ANSWER_BYTES))
        while data:
            length, kind = struct.unpack_from("=IH", data)
            body = data[16:length]
            if kind == _DONE:
                return
            if kind == _ERROR:
                code = -struct.unpack_from("=i", body)[0]
                raise OSError(code, os.strerror(code))
            family = body[0]
            (port,) = struct.unpack_from("!H", body, 4)
            packed = bytes(body[8:12] if family == socket.AF_INET else body[8:24])
            (inode,) = struct.unpack_from("=I", body, 68)
            yield Listener(_plain(ipaddress.ip_address(packed)), port, str(inode))
            data = data[(length + 3) & ~3 :]


def list_by_proc() -> list[Listener]:
    """By /proc/net/tcp and tcp6."""
    found = []
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                rows = lines.read().splitlines()[1:]
        except OSError:
            continue  # without IPv6 there is no second table
        for row in rows:
            columns = row.split()
            if columns[3] == _LISTEN:
                host, _, port = columns[1].partition(":")
                found.append(Listener(kernel_address(host), int(port, 16), columns[9]))
    return found


def kernel_address(text: str) -> Address:
    """An address as /proc/net/tcp{,6} writes it: 32-bit words in the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return _plain(ipaddress.ip_address(packed))


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _sockets(pid: int) -> frozenset[str]:
    """The inodes of a process's sockets; none when it is gone."""
    found = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.add(os.readlink(entry.path).removeprefix("socket:[").removesuffix("]"))
    return frozenset(found)


def _covers(listening: Address, wanted: Address) -> bool:
    return listening == wanted or listening.is_unspecified
