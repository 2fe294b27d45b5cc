"""One server's Docker Engine, a person at it and a clock, twice: a real one, and the simulated one."""

from __future__ import annotations

import contextlib
import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from math import inf

from reconciler.engine.ports import DockerPort
from reconciler.model.container import ContainerPlan, ContainerRole, Labels
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Container
from tests.fakes.docker import FakeDocker
from tests.fakes.docker_engine import Box, Engine, Program, image

NO_IMAGE = "reconciler-test/none:1"
NO_REGISTRY = "127.0.0.1:1/nothing:1"
LISTENS = 8080


class Ground(ABC):
    """A server on an Engine. `docker` is what is tested. The network of the project is made.

    Images: `app` is the test application (it listens on 8080 and obeys EXIT_AT_START, CRASH_AFTER and IGNORE_TERM), `data` keeps
    data in a VOLUME.
    """

    docker: DockerPort
    app: str
    data: str
    server: str
    instance: InstanceKey
    network: str
    subnet: ipaddress.IPv4Network

    def labels(self, role: ContainerRole = "application", **given: object) -> Labels:
        """Of the application in the primary slot, unless told otherwise."""
        base = Labels(server=self.server, role=role, service=self.instance.service, slot="primary", spec="sha256:1", shape="s1")
        return base.model_copy(update=given)

    def plan(self, **given: object) -> ContainerPlan:
        """The application on the project network at .10, unless told otherwise."""
        base: dict[str, object] = {
            "name": self.instance.name,
            "image": self.app,
            "labels": self.labels(),
            "network": self.network,
            "address": self.address(10),
        }
        return ContainerPlan.model_validate({**base, **given})

    def secondary(self, **given: object) -> ContainerPlan:
        """The other slot, at .11."""
        other: dict[str, object] = {
            "name": self.instance.other.name,
            "labels": self.labels(slot="secondary"),
            "address": self.address(11),
        }
        return self.plan(**{**other, **given})

    def sidecar(self, **given: object) -> ContainerPlan:
        """A container whose network namespace the application joins; its own program listens elsewhere."""
        own: dict[str, object] = {"name": self.instance.sidecar, "labels": self.labels("sidecar"), "env": (("PORT", "8081"),)}
        return self.plan(**{**own, **given})

    def joined(self, **given: object) -> ContainerPlan:
        """The application in its sidecar's namespace."""
        inside: dict[str, object] = {"network": None, "address": None, "namespace_of": self.instance.sidecar}
        return self.plan(**{**inside, **given})

    def address(self, number: int) -> str:
        """An address of the project network."""
        return str(self.subnet[number])

    def up(self, plan: ContainerPlan | None = None) -> Container:
        """Created and started; the application listens."""
        plan = plan or self.plan()
        identity = self.docker.create(plan)
        self.docker.start(identity)
        self.wait(lambda: bool(self.docker.logs(identity)) or not self.seen(plan.name).running, 20, f"{plan.name} has begun")
        return self.seen(plan.name)

    def seen(self, name: str | None = None) -> Container:
        """A container of ours as it is listed."""
        self.docker.invalidate()
        wanted = name or self.instance.name
        return next(container for container in self.docker.containers()[0] if container.name == wanted)

    @abstractmethod
    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Until something holds, at most for so long."""


class DockerBed(Ground):
    """With a person at the Engine, and a view from outside."""

    @abstractmethod
    def other(self, server: str) -> DockerPort:
        """Another server's adapter on the same Engine."""

    @abstractmethod
    def free_port(self) -> int:
        """A port of 127.0.0.1 where nothing listens."""

    @abstractmethod
    def listening(self, port: int) -> contextlib.AbstractContextManager[None]:
        """A process of somebody else listens there on 127.0.0.1 meanwhile."""

    @abstractmethod
    def foreign(self, name: str, labels: Labels | None = None) -> None:
        """Somebody runs a container, of their own or with another server's labels."""

    @abstractmethod
    def foreign_network(self, suffix: str) -> str:
        """Somebody makes a network; returns its name."""

    @abstractmethod
    def crash(self, name: str) -> None:
        """Its process is killed, not through Docker."""

    @abstractmethod
    def by_hand(self, name: str, what: str, *arguments: str) -> None:
        """pause, kill, restart, rename NEW, remove, disconnect NETWORK, connect NETWORK."""

    @abstractmethod
    def reaches(self, address: str, port: int = LISTENS) -> bool:
        """Whether a connection from the server is accepted."""

    @abstractmethod
    def resolves(self, asker: str, name: str) -> str | None:
        """What a name means inside of a running container."""

    @abstractmethod
    def volumes(self) -> frozenset[str]:
        """The volumes of this bed."""


class FakeBed(DockerBed):
    """The simulated Engine."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.server = "test-1"
        self.app, self.data = "app:1", "postgres:15"
        self.engine = Engine(lambda: self.now, _program)
        self.engine.images = {self.app: image(self.app), self.data: image(self.data, ["/var/lib/postgresql/data"], [5432])}
        self.docker: DockerPort = FakeDocker(self.engine, self.server)
        key = ServiceKey(self.server, "prod", "web")
        self.instance, self.network = key.instance("primary"), key.network
        self.subnet = ipaddress.IPv4Network("10.222.7.0/24")
        self.docker.create_network(self.network, str(self.subnet))
        self._ports = iter(range(20000, 60000))

    def other(self, server: str) -> DockerPort:
        return FakeDocker(self.engine, server)

    def free_port(self) -> int:
        return next(self._ports)

    @contextlib.contextmanager
    def listening(self, port: int) -> Iterator[None]:
        self.engine.foreign_ports.add(("127.0.0.1", port))
        yield
        self.engine.foreign_ports.discard(("127.0.0.1", port))

    def foreign(self, name: str, labels: Labels | None = None) -> None:
        plan = ContainerPlan(name=name, image=self.app, labels=labels or self.labels())
        self.engine.start(self.engine.create(plan, ours=labels is not None))

    def foreign_network(self, suffix: str) -> str:
        name = f"{self.server}_{suffix}"
        self.engine.create_network(name, f"10.222.{100 + len(self.engine.networks)}.0/24", None)
        return name

    def crash(self, name: str) -> None:
        self.engine.crash(self._box(name))

    def by_hand(self, name: str, what: str, *arguments: str) -> None:
        engine, box = self.engine, self._box(name)
        hands: dict[str, Callable[[], None]] = {
            "pause": lambda: engine.pause(box, frozen=True),
            "kill": lambda: engine.kill_by_hand(box),
            "restart": lambda: engine.restart_by_hand(box),
            "rename": lambda: engine.rename(box, *arguments),
            "remove": lambda: engine.remove_by_hand(box),
            "disconnect": lambda: engine.disconnect(box, *arguments),
            "connect": lambda: engine.connect(box, arguments[0], None),
        }
        hands[what]()

    def reaches(self, address: str, port: int = LISTENS) -> bool:
        self.engine.settle()
        return self.engine.accepts(address, port) is not None

    def resolves(self, asker: str, name: str) -> str | None:
        return next(iter(self.engine.resolve(asker, name)), None)

    def volumes(self) -> frozenset[str]:
        return frozenset(self.engine.volumes)

    def daemon_restarts(self) -> None:
        """`systemctl restart docker`."""
        self.engine.restart_daemon()

    def power_cut(self) -> None:
        """And back on."""
        self.engine.power_cut()

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        end = self.now + seconds
        while not condition():
            assert self.now < end, f"not within {seconds:g} s: {what}"
            self.now += 0.05

    def _box(self, name: str) -> Box:
        box = self.engine.find(name)
        assert box is not None
        return box


def _program(box: Box) -> Program:
    """As the test application reads its environment."""
    env = dict(box.plan.env)
    if box.plan.command == ("no-such-program",):
        return Program(wrong='exec: "no-such-program": executable file not found in $PATH')
    if box.plan.command == ("true",):
        return Program(after=0.05)
    if "EXIT_AT_START" in env:
        return Program(after=0.05, code=int(env["EXIT_AT_START"]))
    return Program(
        after=float(env.get("CRASH_AFTER", inf)),
        code=3,
        on_signal=None if "IGNORE_TERM" in env else 0,
        listens=frozenset({int(env.get("PORT", LISTENS))}),
        output=("listening",),
    )
