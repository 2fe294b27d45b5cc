"""A real nginx container in the host's network namespace, backends with chosen faults, and clients that count what they lose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import docker
import docker.errors
from docker.models.containers import Container

from reconciler.effects.nginx import MOUNT, Nginx
from reconciler.errors import Transient
from reconciler.model.routes import Listener, NginxConfig, Peer, Route, Upstream
from reconciler.model.switched import Switched
from reconciler.render.nginx import Rendered, render
from tests.integration.conftest import Scope

SERVICE = "shop/prod/api"
UPSTREAM = "shop_prod_api"


@dataclass(frozen=True)
class DockerPy:
    """What `Nginx` needs of Docker, straight from docker-py."""

    client: docker.DockerClient

    def exec(self, container: str, argv: tuple[str, ...], timeout: float) -> tuple[int, str]:
        try:
            found = self.client.containers.get(container).id or ""
            execution = self.client.api.exec_create(found, list(argv))["Id"]
            output = bytes(self.client.api.exec_start(execution))
            return int(self.client.api.exec_inspect(execution)["ExitCode"]), output.decode()
        except docker.errors.APIError as error:
            raise Transient(str(error)) from error

    def logs(self, container: str, tail: int) -> tuple[str, ...]:
        return tuple(self.client.containers.get(container).logs(tail=tail).decode().splitlines())


@dataclass(frozen=True)
class Wanted:
    """A text for an nginx."""

    name: str
    text: str
    fingerprint: str
    port: int


@dataclass
class Rig:
    """One nginx under test. `root` holds the configurations; containers carry the scope's labels."""

    scope: Scope
    root: Path
    image: str
    nginx: Nginx = field(init=False)

    def __post_init__(self) -> None:
        self.nginx = Nginx(self.root, DockerPy(self.scope.client))

    def start(
        self, suffix: str, config: NginxConfig, text: str | None = None, network: str | None = "host", pinned: bool = False
    ) -> Running:
        """Starts a container with this configuration (or this text of it) and waits until it answers.

        `pinned`: it reads the file through a bind mount of that file alone.
        """
        name = f"{self.scope.name}_{suffix}"
        rendered = render(config)
        self.nginx.write(name, text or rendered.text)
        volumes = {str(self.root / name): {"bind": MOUNT, "mode": "ro"}}
        if pinned:
            volumes[str(self.root / name / "nginx.conf")] = {"bind": "/etc/pinned.conf", "mode": "ro"}
        container = self.scope.client.containers.run(
            self.image,
            ["nginx", "-c", "/etc/pinned.conf" if pinned else f"{MOUNT}/nginx.conf"],
            name=name,
            detach=True,
            labels=self.scope.labels,
            network=network,
            volumes=volumes,
        )
        running = Running(self, name, config, container)
        end = time.monotonic() + 30
        while self.nginx.state(name, running.pid, config.generation_port).loaded is None:
            container.reload()
            assert container.status in ("created", "running"), container.logs().decode()
            assert time.monotonic() < end, container.logs().decode()
        return running


@dataclass
class Running:
    """A running nginx container."""

    rig: Rig
    name: str
    config: NginxConfig
    container: Container

    @property
    def pid(self) -> int:
        self.container.reload()
        return int(self.container.attrs["State"]["Pid"])

    @property
    def file(self) -> str:
        return (self.rig.root / self.name / "nginx.conf").read_text()

    @property
    def loaded(self) -> str | None:
        return self.rig.nginx.state(self.name, self.pid, self.config.generation_port).loaded

    def target(self, rendered: Rendered) -> tuple[Wanted, int]:
        return Wanted(self.name, rendered.text, rendered.fingerprint, self.config.generation_port), self.pid

    def switch(self, rendered: Rendered, timeout: float = 5.0) -> Switched:
        (switched,) = self.rig.nginx.switch([self.target(rendered)], timeout)
        return switched


def edge(
    port: int, generation_port: int, *peers: Peer, routes: tuple[Route, ...] | None = None, shutdown: float = 60
) -> NginxConfig:
    """An edge in the host's namespace that passes everything on to the peers."""
    everything = (Route(host="_", path="/", rewrite=None, upstream=UPSTREAM, service=SERVICE),)
    return NginxConfig(
        kind="edge",
        name="nginx",
        generation_port=generation_port,
        http_ports=(port,),
        upstreams=(Upstream(name=UPSTREAM, peers=peers),),
        routes=everything if routes is None else routes,
        shutdown_timeout=shutdown,
    )


def sidecar(generation_port: int, port: int, *peers: Peer) -> NginxConfig:
    """A sidecar with one listener."""
    return NginxConfig(
        kind="sidecar",
        name="shop_prod_web_sidecar",
        generation_port=generation_port,
        upstreams=(Upstream(name=UPSTREAM, peers=peers),),
        listeners=(Listener(port=port, upstream=UPSTREAM),),
    )


def variant(rendered: Rendered, number: int, *replacements: tuple[str, str]) -> Rendered:
    """The same configuration under another fingerprint, with words replaced (to take a remedy out or put a fault in)."""
    fingerprint = f"{number:016x}"
    text = rendered.text.replace(rendered.fingerprint, fingerprint)
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return Rendered(text=text, fingerprint=fingerprint)


Fault = Literal["none", "reset", "forget-idle"]


@dataclass
class Seen:
    """A request as the backend got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: int


class Backend:
    """An HTTP/1.1 backend on a loopback address that answers its name and notes what it gets.

    Faults: `reset` cuts each connection once a whole request has arrived; `forget-idle` cuts a connection on which a request comes
    after `idle` seconds of silence, as an application does whose idle timeout ended while the request was on its way.
    """

    def __init__(self, name: str, port: int = 0, fault: Fault = "none", idle: float = 1.2, host: str = "127.0.0.1") -> None:
        self.name = name
        self.host = host
        self.fault = fault
        self.idle = idle
        self.seen: list[Seen] = []
        self.last = 0.0
        self.connections = 0
        self._listener = socket.create_server((host, port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def remove(self) -> None:
        """Gone at once, as after SIGKILL."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError), connection, connection.makefile("rb") as stream:
            answered = 0.0
            while line := stream.readline():
                if self.fault == "forget-idle" and answered and time.monotonic() - answered > self.idle:
                    return
                method, target = line.decode().split()[:2]
                headers: dict[str, str] = {}
                while (header := stream.readline().decode().strip()) != "":
                    key, _, value = header.partition(":")
                    headers[key.lower()] = value.strip()
                left = size = int(headers.get("content-length", 0))
                while left:
                    left -= len(stream.read(min(left, 65536)))
                self.seen.append(Seen(method, target, headers, size))
                if self.fault == "reset":
                    return
                if headers.get("upgrade") == "websocket":
                    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
                    while data := connection.recv(1000):
                        connection.sendall(data)
                    return
                body = f"{self.name} {target}".encode()
                answered = self.last = time.monotonic()  # before the client can ask for it
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        self._open.discard(connection)


@dataclass(frozen=True)
class Answer:
    """What a client got. `status` 0: the connection ended without an answer."""

    status: int
    headers: dict[str, str]
    body: str


def request(port: int, target: str = "/", method: str = "GET", host: str = "shop.example", body: bytes = b"") -> Answer:
    """One request over a fresh connection, its target as it stands."""
    with socket.create_connection(("127.0.0.1", port), 15) as client:
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        return read_answer(client)


def read_answer(client: socket.socket) -> Answer:
    """Reads to the end of the connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            data += chunk
    if not data:
        return Answer(0, {}, "")
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]), headers, body.decode())


@dataclass
class Load:
    """Keep-alive clients on one port, each posting again and again until told to stop. `answered` and `lost` are counts."""

    port: int
    clients: int = 10
    limit: int = 200_000
    answered: int = 0
    lost: int = 0
    statuses: set[int] = field(default_factory=set)
    _stop: bool = False

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        thread.start()
        try:
            yield self
        finally:
            self._stop = True
            thread.join()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(self.clients)))

    async def _one(self) -> None:
        request = b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nbody"
        writer = None
        while not self._stop and self.answered + self.lost < self.limit:
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
            except (OSError, asyncio.IncompleteReadError):
                self.lost += 1
                writer = None
                continue
            self.answered += 1
            self.statuses.add(int(head.split()[1]))
            if b"\r\nconnection: close" in head.lower():
                writer.close()
                writer = None
        if writer is not None:
            writer.close()
