"""Ports for what a test starts and gives a port by its number: a server of its own, or one that has to come back where it was.

The kernel hands out ports from 32768 on to whoever asks for any, clients included: a number that was free a moment ago may be
somebody else's when the server that is to have it starts. What can listen on port 0 by itself needs none of these.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator

PORTS = range(20000, 32000)
"""Neither the program's own ports nor those, from 32768 up, that the kernel gives to whoever connects or asks for any."""


@contextlib.contextmanager
def free_ports() -> Iterator[Callable[[], int]]:
    """Yields a function that returns a TCP port of 127.0.0.1 that nothing listens on, another one each time.

    Until the end no other call gets that port, in this process or in any other of this machine: each port stands for an abstract
    socket's name, which the kernel forgets with its process.
    """
    with contextlib.ExitStack() as claims:

        def pick() -> int:
            for port in random.sample(PORTS, len(PORTS)):
                claim = socket.socket(socket.AF_UNIX)
                try:
                    claim.bind(f"\0reconciler-test-port-{port}")
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", port))
                except OSError:
                    claim.close()
                    continue
                claims.enter_context(claim)
                return port
            raise AssertionError(f"no free port from {PORTS.start} to {PORTS.stop - 1}")

        yield pick
