"""Listening ports as the kernel tells them."""

from __future__ import annotations

import socket

import pytest

from reconciler.effects.docker_ports import kernel_address, ports_in_use


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
