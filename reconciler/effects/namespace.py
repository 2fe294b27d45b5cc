"""Reaching into a container's network namespace from the host: connections, counts of connections, nginx's worker processes.

Needs root (CAP_SYS_ADMIN and CAP_SYS_PTRACE), as the daemon has. Nothing is run inside the container and nothing need be there.
"""

from __future__ import annotations

import ctypes
import http.client
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import Transient

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_BODY_LIMIT = 64 * 1024
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Linux include/net/tcp_states.h. What is counted has someone who can still send a request, or an answer not yet taken by the peer:
# ESTABLISHED, SYN_RECV, FIN_WAIT1, CLOSE_WAIT, LAST_ACK, CLOSING. FIN_WAIT2 and TIME_WAIT are left out: all that the application
# sent has arrived and it has closed.
_BUSY = frozenset({0x01, 0x03, 0x04, 0x08, 0x09, 0x0B})


@dataclass(frozen=True)
class Workers:
    """The worker processes of an nginx master, as process ids on the host. A worker that has just been forked is in neither."""

    current: frozenset[int]
    shutting_down: frozenset[int]


def dial(pid: int | None, address: str, port: int, timeout: float) -> socket.socket:
    """Connect over TCP from inside the network namespace of a process; None: from the host's own.

    `timeout` (seconds) stays on the socket. Raises what connecting raises (ConnectionRefusedError, TimeoutError, other OSErrors),
    and FileNotFoundError or ProcessLookupError when there is no such process.
    """
    if pid is None:
        return socket.create_connection((address, port), timeout)
    made: list[socket.socket | BaseException] = []

    def inside() -> None:
        # A thread of its own: setns moves the calling thread only, and it is not moved back but ends here.
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, f"entering the network namespace of process {pid}: {os.strerror(code)}")
            finally:
                os.close(namespace)
            made.append(socket.create_connection((address, port), timeout))
        except BaseException as error:
            made.append(error)

    thread = threading.Thread(target=inside, name=f"namespace-{pid}", daemon=True)
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, BaseException):
        raise result
    return result


def http_get(pid: int | None, port: int, path: str, timeout: float, address: str = "127.0.0.1") -> tuple[int, str]:
    """GET over a fresh connection from inside the namespace. Returns the status and at most 64 KiB of the body.

    `timeout`: seconds for each wait. Raises OSError as `dial` does, or Transient when the answer is not HTTP.
    """
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    connection.sock = dial(pid, address, port, timeout)
    try:
        connection.request("GET", path, headers={"Host": "localhost", "Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(_BODY_LIMIT).decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise Transient(f"{address}:{port} in the namespace of process {pid} did not answer HTTP: {error!r}") from error
    finally:
        connection.close()


def established(pid: int, port: int) -> int:
    """How many connections from outside the namespace end at this local port and may still carry data.

    Connections with both ends in the namespace are left out: those are probes (ours, Docker's HEALTHCHECK) or the instance talking
    to itself, and an instance that only talks to itself is idle. Everything that comes from elsewhere counts, whoever it is. Raises
    Transient when the process is gone.
    """
    try:
        rows = list(_connections(pid))
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Transient(f"process {pid} is gone: its connections cannot be counted") from error
    return sum(
        1 for local, local_port, remote, state in rows if local_port == port and state in _BUSY and not _inside(local, remote)
    )


def workers(pid: int) -> Workers:
    """The workers of the nginx whose master is `pid`, told apart by the title that a worker gives itself.

    Raises Transient when the master is gone, or the process is something else (its id was given to another one).
    """
    if not _title(pid).startswith("nginx: master process"):
        raise Transient(f"process {pid} is not an nginx master, or gone")
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Transient(f"the nginx master process {pid} is gone") from error
    titles = {int(child): _title(int(child)) for child in children}
    ending = {child for child, title in titles.items() if title.startswith("nginx: worker process is shutting down")}
    running = {child for child, title in titles.items() if title.startswith("nginx: worker process")} - ending
    return Workers(frozenset(running), frozenset(ending))


def _title(pid: int) -> str:
    """A process's title; empty when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _connections(pid: int) -> Iterator[tuple[Address, int, Address, int]]:
    """(local address, local port, remote address, state) of each TCP socket in the namespace of a process."""
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        if table == "tcp6" and not path.exists():
            continue  # no IPv6 here
        for line in path.read_text().splitlines()[1:]:
            local, remote, state = line.split()[1:4]
            address, _, port = local.partition(":")
            yield _address(address), int(port, 16), _address(remote.partition(":")[0]), int(state, 16)


def _address(text: str) -> Address:
    """The kernel's form: words of 32 bits in the machine's byte order, as hex."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    if len(raw) == 4:
        return ipaddress.IPv4Address(raw)
    address = ipaddress.IPv6Address(raw)
    return address.ipv4_mapped or address


def _inside(local: Address, remote: Address) -> bool:
    return remote.is_loopback or remote == local
