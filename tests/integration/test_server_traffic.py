"""What clients notice of a deploy, at the edge and in the mesh: nothing (DESIGN section 4)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.integration.server import FAILING, Server, one_server  # noqa: F401 - the fixture `server`

pytestmark = pytest.mark.docker

PUBLIC = {"hosts": ["shop.example"]}
CLOSE, TEXT = 8, 1


@dataclass
class Clients:
    """Threads that ask again and again, and remember every answer that is not as it should be.

    `kept`: over kept connections, which an edge has to keep whole. In the mesh, which passes bytes on and knows nothing of HTTP, an
    application that ends closes its idle connections by itself, and what a client sends at that moment is the client's to repeat.
    """

    port: int
    path: str = "/"
    expected: str = '"status": 200'
    count: int = 3
    kept: bool = True
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def asking(self) -> Iterator[Clients]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._ask, args=(stop,)) for _ in range(self.count)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _ask(self, stop: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while not stop.wait(0.005):
            try:
                connection.request("GET", self.path, headers={"Host": "shop.example"})
                response = connection.getresponse()
                body = response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            if response.status != 200 or self.expected not in body:
                self.failures.append(f"{response.status} {body[:200]}")
            self.answered += 1
            if not self.kept:
                connection.close()
        connection.close()


@dataclass
class Lines:
    """A client that opens a TCP connection, sends a line, wants it back, and closes."""

    port: int
    echoed: int = 0
    failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def asking(self) -> Iterator[Lines]:
        stop = threading.Event()
        thread = threading.Thread(target=self._ask, args=(stop,))
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()

    def _ask(self, stop: threading.Event) -> None:
        while not stop.wait(0.01):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 10) as client, client.makefile("rwb") as stream:
                    stream.write(b"hello\n")
                    stream.flush()
                    line = stream.readline()
                if line == b"hello\n":
                    self.echoed += 1
                else:
                    self.failures.append(repr(line))
            except OSError as error:
                self.failures.append(repr(error))


class WebSocket:
    """A client of RFC 6455, as far as the test application speaks it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 120)
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET /ws HTTP/1.1\r\nHost: shop.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        )
        self._socket.sendall((head + "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        self._stream = self._socket.makefile("rb")
        self.status = int(self._stream.readline().split()[1])
        while self._stream.readline().strip():
            pass

    def send(self, text: str) -> None:
        mask, payload = os.urandom(4), text.encode()
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._socket.sendall(bytes([0x80 | TEXT, 0x80 | len(payload)]) + mask + masked)

    def receive(self) -> tuple[int, bytes]:
        first, length = self._stream.read(2)
        return first & 0x0F, self._stream.read(length)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


def upload(port: int, seconds: float, begun: threading.Event) -> tuple[int, str]:
    """A POST whose body takes `seconds` to send. Returns the status and the answer. `begun`: it is under way."""
    pieces = 40
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(
            b"POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (pieces * 1000)
        )
        for _ in range(pieces):
            client.sendall(b"x" * 1000)
            begun.set()
            time.sleep(seconds / pieces)  # a slow client: the wait is the subject, not a wait for something
        answer = b""
        while data := client.recv(65536):
            answer += data
    return int(answer.split(b" ", 2)[1]), answer.decode()


def test_long_requests_survive_a_toggle(server: Server) -> None:
    """FAULTS 24, 25, 27: short requests, a slow answer, a slow upload and a websocket, all across one switch."""
    server.deploy({"web": server.app("1", public=PUBLIC)}, "one")
    websocket = WebSocket(server.edge_port)
    assert websocket.status == 101
    websocket.send("version")
    assert websocket.receive() == (TEXT, b"1")
    with ThreadPoolExecutor() as pool, Clients(server.edge_port, expected='"version"').asking() as clients, server.running():
        begun, slow = threading.Event(), http.client.HTTPConnection("127.0.0.1", server.edge_port, timeout=60)
        slow.request("GET", "/slow?s=5", headers={"Host": "shop.example", "Connection": "close"})
        sent = pool.submit(upload, server.edge_port, 20.0, begun)
        assert begun.wait(30)
        # Both are on their way to version 1 before the switch: connections that came after them have been answered.
        assert {server.get().json["version"] for _ in range(20)} == {"1"}
        server.commit({"web": server.app("2", public=PUBLIC)}, "two")
        kind, payload = websocket.receive()
        assert (kind, struct.unpack("!H", payload[:2])[0]) == (CLOSE, 1012), "the old application tells its clients to come back"
        websocket.close()
        again = WebSocket(server.edge_port)
        again.send("version")
        assert again.receive() == (TEXT, b"2")
        again.close()
        response = slow.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200 and answer["version"] == "1" and answer["slept"] == 5
        slow.close()
        status, text = sent.result()
        assert status == 200 and hashlib.sha256(b"x" * 40_000).hexdigest() in text
    server.settle()
    assert clients.failures == [] and clients.answered > 100
    assert set(server.ids()) >= {"web_secondary"} and "web" not in server.ids()


def test_the_edge_routes_by_host_and_longest_prefix_and_says_what_is_wrong(server: Server) -> None:
    services = {
        "web": server.app("web", public=PUBLIC),
        "api": server.app("api", public={"hosts": ["shop.example"], "path": "/api", "rewrite": "/"}),
        "one": server.app("one", public=[{"hosts": ["shop.example"], "path": "/api/v1"}, {"hosts": ["*.one.example"]}]),
        "never": server.app(
            "never", public={"hosts": ["shop.example"], "path": "/never"}, env={"FAIL_HEALTH": "1"}, health=FAILING
        ),
    }
    server.deploy(services, "four")

    def told(path: str, host: str = "shop.example") -> tuple[str, str]:
        answer = server.get(path, host)
        assert answer.status == 200, (path, answer)
        return answer.json["version"], answer.json["path"]

    assert told("/") == ("web", "/")
    assert told("/apix") == ("web", "/apix")
    assert told("/api/orders?q=1") == ("api", "/orders?q=1")
    assert told("/api/v1/orders") == ("one", "/api/v1/orders")
    assert told("/deep/path", "eu.one.example") == ("one", "/deep/path")
    unknown = server.get("/", "unknown.example")
    assert unknown.status in (404, 421)
    missing = server.get("/never/x")
    assert missing.status == 503 and int(missing.headers["retry-after"]) > 0

    before, edge, generation = server.switches(), server.edge().id, server.cluster().generation
    changed = {name: {**service, "env": {**service["env"], "MORE": "1"}} for name, service in services.items() if name != "never"}
    passes: list[int] = []
    server.on_effect = lambda effect: passes.append(server.wired.cycle.passes) if effect.kind == "switch" else None
    server.deploy({**changed, "never": services["never"]}, "three at once")
    assert len(passes) == len(set(passes)), "one reload in a pass at most"
    decisions = server.cluster().generation - generation  # more of them when one is healthy long before another
    assert 1 <= server.switches() - before <= max(4, decisions + 1)
    assert server.edge().id == edge

    before = server.switches()
    server.remote.commit({"README.md": "words"}, "nothing for nginx")
    server.settle()
    assert server.switches() == before
    assert told("/") == ("web", "/")


def test_consumers_reach_providers_on_localhost_by_name(server: Server) -> None:
    """Addresses by container name and container port, and environment variables for what `needs` names."""
    services = {
        "db": server.app("db", needs={}),
        "api": server.app("api", needs={"db": "db"}),
        "web": server.app("web"),
    }
    server.deploy(services, "three")
    assert server.inside("api", f"http://localhost:{server.port('db')}/")["version"] == "db"
    assert server.inside("web", f"http://localhost:{server.port('api')}/")["version"] == "api"
    assert server.get(port=server.port("db")).json["version"] == "db", "from outside Docker, on the server's own localhost"
    assert f"server {server.project}_prod_db:8080 " in server.sidecar_file("api_sidecar")
    assert f"127.0.0.1:{server.port('web')};" not in server.sidecar_file("api_sidecar"), "what it does not need it does not see"
    assert server.inside("api", "http://localhost:8080/env") == {"DB_HOST": "localhost", "DB_PORT": str(server.port("db"))}
    assert server.inside("web", "http://localhost:8080/env") == {}
    assert set(server.ours()) >= {"db", "api_sidecar", "web_sidecar"} and "db_sidecar" not in server.ours()

    before, switches = server.ids(), server.switches()
    server.deploy({**services, "cache": server.app("cache", needs={})}, "a provider more")
    assert {name: found for name, found in server.ids().items() if name != "cache"} == before, "a reload and no restart"
    assert server.switches() > switches
    assert server.inside("web", f"http://localhost:{server.port('cache')}/")["version"] == "cache"


def test_a_provider_toggles_under_load_through_the_mesh_and_nothing_is_lost(server: Server) -> None:
    echo = server.app("1", needs={}, port=9000, env={"TCP_PORT": "9000"}, health={"tcp": True, "interval": "200ms", "retries": 75})
    services = {"db": server.app("1", needs={}), "echo": echo, "api": server.app("1")}
    server.deploy(services, "one")
    through = Clients(server.port("api"), f"/fetch?url=http://localhost:{server.port('db')}/", kept=False)
    from_host = Clients(server.port("db"), expected='"version"', count=1, kept=False)
    lines = Lines(server.port("echo"))
    consumer = server.container("api").id
    with through.asking(), from_host.asking(), lines.asking():
        for version in ("2", "3"):
            more = {"VERSION": version}
            toggled = {name: {**services[name], "env": {**services[name]["env"], **more}} for name in ("db", "echo")}
            server.deploy({**services, **toggled}, f"version {version}")
    assert through.failures == [] and from_host.failures == [] and lines.failures == []
    assert through.answered > 100 and from_host.answered > 100 and lines.echoed > 100
    assert server.get(port=server.port("db")).json["version"] == "3"
    assert server.container("api").id == consumer


def test_a_connection_kept_through_the_mesh_neither_holds_up_other_deploys_nor_is_cut_by_them(server: Server) -> None:
    """A database pool: every reload of the sidecars and the host listener leaves its connection where it is."""
    echo = server.app("1", needs={}, port=9000, env={"TCP_PORT": "9000"}, health={"tcp": True, "interval": "200ms", "retries": 75})
    others = {"web": server.app("1", needs={}), "api": server.app("1")}
    server.deploy({"echo": echo, **others}, "one")
    with socket.create_connection(("127.0.0.1", server.port("echo")), timeout=60) as kept:
        for version in ("2", "3"):
            server.deploy({"echo": echo, "web": server.app(version, needs={}), "api": server.app("1")}, version, timeout=100)
            kept.sendall(b"still there\n")
            assert kept.recv(100) == b"still there\n"
    assert server.get(port=server.port("web")).json["version"] == "3"


def test_a_kept_connection_of_a_consumer_delays_two_toggles_in_a_row_and_fails_neither(server: Server) -> None:
    """Old nginx workers stay for it, and what is held by them ends by itself: one run of `--once` waits for it."""
    api = server.app("1", needs={})
    server.deploy({"db": server.app("1", needs={}), "api": api}, "one")
    with socket.create_connection(("127.0.0.1", server.port("api")), timeout=60) as kept:
        for version in ("2", "3"):
            server.deploy({"db": server.app(version, needs={}), "api": api}, version, timeout=120)
            assert server.get(port=server.port("db")).json["version"] == version
            # It speaks now and then: the application closes what has been silent for 75 seconds.
            kept.sendall(b"GET /up HTTP/1.1\r\nHost: api\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}\n"):
                answer += (piece := kept.recv(4096))
                assert piece, "it was closed"
            assert answer.startswith(b"HTTP/1.1 200")
