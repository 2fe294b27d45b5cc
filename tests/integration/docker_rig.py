"""A server on a real Docker Engine for the adapter's tests: its project network, plans, and a person's own hands."""

from __future__ import annotations

import ipaddress
import json
import random
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container as ByHand
from docker.models.networks import Network

from reconciler.effects.docker import Docker
from reconciler.model.container import ContainerPlan, ContainerRole, Labels
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Container
from tests.integration.conftest import Scope
from tests.integration.images import Images
from tests.waiting import eventually

SOCKET = "unix:///var/run/docker.sock"


@dataclass
class Rig:
    """`docker` is what is tested; `client` does what a person would do."""

    docker: Docker
    client: DockerClient
    scope: Scope
    images: Images
    instance: InstanceKey
    network: str
    subnet: ipaddress.IPv4Network

    def labels(self, role: ContainerRole = "application", **given: str) -> Labels:
        labels = Labels(
            server=self.scope.server, role=role, service=self.instance.service, slot="primary", spec="sha256:1", shape="s1"
        )
        return labels.model_copy(update=given)

    def plan(self, **given: object) -> ContainerPlan:
        """The application on the project network at the subnet's address .10, unless told otherwise."""
        base: dict[str, object] = {
            "name": self.instance.name,
            "image": self.images.app,
            "labels": self.labels(),
            "network": self.network,
            "address": self.address(10),
        }
        return ContainerPlan.model_validate({**base, **given})

    def address(self, number: int) -> str:
        return str(self.subnet[number])

    def up(self, plan: ContainerPlan | None = None) -> Container:
        """Created, started, and as the listing shows it. The test application has begun to listen, and hears its stop signal."""
        plan = plan or self.plan()
        identity = self.docker.create(plan)
        self.docker.start(identity)
        if plan.image == self.images.app and plan.command is None:
            eventually(lambda: self.docker.logs(identity), 30)
        return self.seen(plan.name)

    def seen(self, name: str | None = None) -> Container:
        containers, _ = self.docker.containers()
        wanted = name or self.instance.name
        return next(container for container in containers if container.name == wanted)

    def free_network(self, suffix: str) -> Network:
        """A network made by a person, with a subnet of its own."""
        return eventually(lambda: self.scope.network(suffix, str(free_subnet(self.docker))))  # another test may be faster

    def by_hand(self, name: str | None = None) -> ByHand:
        found: ByHand = self.client.containers.get(name or self.instance.name)
        return found


class Relay:
    """A socket in front of the Engine's that can be cut or fall silent, as a daemon does."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.silent = False
        self.unanswered = 0  # what the Engine was asked while it was silent, and did not hear
        self.refused_starts: list[str] = []  # what to answer to the next requests to start a container, without asking the Engine
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """End every connection there is."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(SOCKET.removeprefix("unix://"))
                self._ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.refused_starts and re.match(rb"POST \S+/start ", data):
                    body = json.dumps({"message": self.refused_starts.pop(0)}).encode()
                    head = f"HTTP/1.1 500 Error\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                    source.sendall(head.encode() + body)
                elif not self.silent:
                    target.sendall(data)
                elif re.match(rb"[A-Z]+ /", data):
                    self.unanswered += 1
            target.shutdown(socket.SHUT_RDWR)


def rig(scope: Scope, client: DockerClient, images: Images) -> Rig:
    """A rig with its network made, in a free corner of 10.222.0.0/16."""
    adapter = Docker(SOCKET, scope.server)
    key = ServiceKey(scope.name, "prod", "web")

    def network() -> ipaddress.IPv4Network:
        subnet = free_subnet(adapter)
        adapter.create_network(key.network, str(subnet))
        return subnet

    subnet = eventually(network)  # another test may be faster
    return Rig(adapter, client, scope, images, key.instance("primary"), key.network, subnet)


def free_subnet(adapter: Docker) -> ipaddress.IPv4Network:
    """A /24 of 10.222.0.0/16 that no network has, picked at random because other tests run beside this one."""
    taken = [ipaddress.IPv4Network(subnet) for subnet in adapter.networks().values() if subnet]
    blocks = list(ipaddress.IPv4Network("10.222.0.0/16").subnets(new_prefix=24))
    random.shuffle(blocks)
    return next(block for block in blocks if not any(block.overlaps(other) for other in taken))
