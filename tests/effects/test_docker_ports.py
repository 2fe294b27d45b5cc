"""Listening ports as the kernel tells them."""

from __future__ import annotations

import os
import socket

import pytest

from reconciler.effects.docker_ports import kernel_address, list_by_netlink, list_by_proc, ports_in_use


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
    ],
)
def test_addresses_are_read_as_the_kernel_writes_them(text: str, address: str) -> None:
    assert str(kernel_address(text)) == address


@pytest.mark.parametrize(
    ("family", "bound", "asked", "busy"),
    [
        (socket.AF_INET, "127.0.0.2", "127.0.0.2", True),
        (socket.AF_INET, "127.0.0.2", "127.0.0.3", False),
        (socket.AF_INET, "0.0.0.0", "127.0.0.3", True),
        (socket.AF_INET6, "::", "127.0.0.3", True),
        (socket.AF_INET6, "::1", "127.0.0.3", False),
    ],
)
def test_a_port_is_busy_where_it_cannot_be_bound(family: socket.AddressFamily, bound: str, asked: str, busy: bool) -> None:
    """FAULTS 12."""
    with socket.socket(family) as listening:
        listening.bind((bound, 0))
        port = listening.getsockname()[1]
        assert port not in ports_in_use(asked)  # bound is not listening yet
        listening.listen()
        assert (port in ports_in_use(asked)) is busy


def test_both_ways_of_asking_the_kernel_tell_of_the_same_sockets() -> None:
    """What listens elsewhere on the machine comes and goes: only these sockets are compared."""
    bound = [
        (socket.AF_INET, "127.0.0.2"),
        (socket.AF_INET, "0.0.0.0"),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.4"),
    ]
    sockets = [socket.socket(family) for family, _ in bound]
    try:
        for one, (_, address) in zip(sockets, bound, strict=True):
            one.bind((address, 0))
            one.listen()
        ours = {str(os.fstat(one.fileno()).st_ino) for one in sockets}
        ways = [{found for found in ask() if found.inode in ours} for ask in (list_by_netlink, list_by_proc)]
        assert ways[0] == ways[1]
        assert {str(found.address) for found in ways[0]} == {"127.0.0.2", "0.0.0.0", "::1", "127.0.0.4"}
        assert {found.port for found in ways[0]} == {one.getsockname()[1] for one in sockets}
    finally:
        for one in sockets:
            one.close()
