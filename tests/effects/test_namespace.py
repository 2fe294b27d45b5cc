"""`effects.namespace` against real network namespaces and real sockets. Needs root, as the daemon does."""

from __future__ import annotations

import http.server
import ipaddress
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from reconciler.effects.namespace import dial, established, http_get, workers
from reconciler.errors import Transient

WAIT = 30.0
"""Seconds that nothing here takes, however busy the machine."""


@pytest.fixture
def pid() -> Iterator[int]:
    """A process in a network namespace of its own, whose loopback is up."""
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    yield process.pid
    process.kill()
    process.wait()
    process.stdout.close()


def listen_in(pid: int, port: int, address: str = "127.0.0.1") -> socket.socket:
    """A listening socket made by a thread inside the namespace."""
    return in_namespace(pid, lambda: socket.create_server((address, port), family=family(address)))


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def in_namespace(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    """What `make` makes in a thread that has entered the namespace by the command line's means, not by the code under test."""
    made: list[socket.socket] = []

    def inside() -> None:
        import ctypes

        with open(f"/proc/{pid}/ns/net") as namespace:
            assert ctypes.CDLL(None).setns(namespace.fileno(), 0) == 0
        made.append(make())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    return made[0]


def test_a_dial_reaches_a_listener_that_exists_only_inside_the_namespace(pid: int) -> None:
    with listen_in(pid, 4999) as server:
        with closing(dial(pid, "127.0.0.1", 4999, WAIT)) as client:
            accepted, _ = server.accept()
            client.sendall(b"inside")
            assert accepted.recv(6) == b"inside"
            accepted.close()
        with pytest.raises(ConnectionRefusedError):
            dial(None, "127.0.0.1", 4999, WAIT)


def test_the_calling_thread_stays_in_its_own_namespace(pid: int) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    with pytest.raises(ConnectionRefusedError):
        dial(pid, "127.0.0.1", 1, WAIT)
    assert os.readlink("/proc/thread-self/ns/net") == before
    assert os.readlink(f"/proc/{pid}/ns/net") != before


def test_a_dial_to_a_process_that_is_gone_says_so() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        dial(process.pid, "127.0.0.1", 80, WAIT)
    with pytest.raises(Transient, match="gone"):
        established(process.pid, 80)
    with pytest.raises(Transient, match="gone"):
        workers(process.pid)


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200 if self.path == "/up" else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def answering(listener: socket.socket) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_http_get_returns_status_and_body(pid: int) -> None:
    with answering(listen_in(pid, 4999)):
        assert http_get(pid, 4999, "/up", WAIT) == (200, "/up")
        assert http_get(pid, 4999, "/other", WAIT) == (503, "/other")


def test_http_get_refuses_what_is_not_http(pid: int) -> None:
    with listen_in(pid, 4999) as server:

        def babble() -> None:
            accepted, _ = server.accept()
            with accepted:
                accepted.recv(1000)
                accepted.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(Transient, match="did not answer HTTP"):
            http_get(pid, 4999, "/", WAIT)
        thread.join()


@pytest.fixture
def pair() -> Iterator[tuple[int, str, str]]:
    """(process, its address, the host's address): a namespace joined to the host's by a pair of virtual interfaces.

    Both have the name and the network of this process alone: tests that run beside this one have their own.
    """
    name = f"rt{os.getpid()}"
    network = int(ipaddress.IPv4Address("198.18.0.0")) + os.getpid() % 2**15 * 4  # a /30 of what RFC 2544 keeps for tests
    host_side, inside = (str(ipaddress.IPv4Address(network + number)) for number in (1, 2))
    script = f"ip link set lo up; while ! ip link show {name}b >/dev/null 2>&1; do sleep 0.01; done; "
    script += f"ip addr add {inside}/30 dev {name}b; ip link set {name}b up; echo up; exec sleep 600"
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    host = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{process.pid}/ns/net") == host:
        assert process.poll() is None
    subprocess.run(
        ["ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", str(process.pid)], check=True
    )
    subprocess.run(["ip", "addr", "add", f"{host_side}/30", "dev", f"{name}a"], check=True)
    subprocess.run(["ip", "link", "set", f"{name}a", "up"], check=True)
    assert process.stdout.readline() == b"up\n"
    yield process.pid, inside, host_side
    process.kill()
    process.wait()
    process.stdout.close()
    subprocess.run(["ip", "link", "del", f"{name}a"], capture_output=True, check=False)


def test_connections_from_elsewhere_count_and_probes_inside_do_not(
    pair: tuple[int, str, str], eventually: Callable[..., None]
) -> None:
    pid, address, _ = pair
    with listen_in(pid, 8080, "0.0.0.0") as server:
        assert established(pid, 8080) == 0
        with closing(dial(pid, "127.0.0.1", 8080, WAIT)), closing(dial(pid, address, 8080, WAIT)):
            probes = [server.accept()[0] for _ in range(2)]
            assert established(pid, 8080) == 0
            with closing(socket.create_connection((address, 8080), WAIT)) as client:
                accepted, _ = server.accept()
                assert established(pid, 8080) == 1
                assert established(pid, 8081) == 0
                # The client has said its all and waits for the answer: the application may be at it still.
                client.shutdown(socket.SHUT_WR)
                eventually(lambda: accepted.recv(1) == b"", WAIT, "the client's end of sending")
                assert established(pid, 8080) == 1
                accepted.close()
                eventually(lambda: established(pid, 8080) == 0, WAIT, "no connection counted after both have closed")
            for probe in probes:
                probe.close()


def test_an_ipv4_client_of_a_dual_stack_listener_counts(pair: tuple[int, str, str]) -> None:
    pid, address, _ = pair
    server = in_namespace(pid, lambda: socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True))
    with server, closing(dial(pid, "::1", 8080, WAIT)), closing(dial(pid, "127.0.0.1", 8080, WAIT)):
        inside = [server.accept()[0] for _ in range(2)]
        with closing(socket.create_connection((address, 8080), WAIT)):
            accepted, _ = server.accept()
            assert established(pid, 8080) == 1
            accepted.close()
        for probe in inside:
            probe.close()


def test_an_answer_that_the_peer_has_not_taken_yet_counts(pair: tuple[int, str, str], eventually: Callable[..., None]) -> None:
    """The application has closed, its last bytes have not arrived: stopping the container now would cut the answer."""
    pid, address, _ = pair
    with listen_in(pid, 8080, "0.0.0.0") as server:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect((address, 8080))
        accepted, _ = server.accept()
        accepted.settimeout(1.0)
        with pytest.raises(TimeoutError):
            while True:
                accepted.send(b"x" * 4096)
        accepted.close()
        assert established(pid, 8080) == 1
        client.close()
        eventually(lambda: established(pid, 8080) == 0, WAIT, "no connection counted after the client has gone")
