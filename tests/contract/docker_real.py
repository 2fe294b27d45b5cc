"""The contract's bed on a real Docker Engine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator

from docker import DockerClient

from reconciler.effects.docker import Docker
from reconciler.engine.ports import DockerPort
from reconciler.model.container import Labels
from tests.contract.docker_beds import LISTENS, DockerBed
from tests.integration import docker_rig
from tests.integration.conftest import Scope
from tests.integration.images import Images
from tests.waiting import eventually


class RealBed(DockerBed):
    """A real Engine, in a scope of its own."""

    def __init__(self, scope: Scope, client: DockerClient, images: Images, free_port: Callable[[], int]) -> None:
        self._rig = docker_rig.rig(scope, client, images)
        self._client, self._scope, self._free_port = client, scope, free_port
        self.server = scope.server
        self.app, self.data = images.app, images.postgres
        self.docker: DockerPort = self._rig.docker
        self.instance, self.network, self.subnet = self._rig.instance, self._rig.network, self._rig.subnet

    def close(self) -> None:
        """End the adapter's streams."""
        self._rig.docker.close()

    def other(self, server: str) -> DockerPort:
        return Docker(docker_rig.SOCKET, server)

    def free_port(self) -> int:
        return self._free_port()

    @contextlib.contextmanager
    def listening(self, port: int) -> Iterator[None]:
        with socket.socket() as somebody:
            somebody.bind(("127.0.0.1", port))
            somebody.listen()
            yield

    def foreign(self, name: str, labels: Labels | None = None) -> None:
        theirs = labels.to_docker() if labels is not None else {}
        self._client.containers.run(self.app, name=name, detach=True, labels={**theirs, **self._scope.labels})

    def foreign_network(self, suffix: str) -> str:
        return self._rig.free_network(suffix).name or ""

    def crash(self, name: str) -> None:
        os.kill(self._rig.docker.pid(name), signal.SIGKILL)

    def by_hand(self, name: str, what: str, *arguments: str) -> None:
        container = self._client.containers.get(name)
        if what in ("connect", "disconnect"):
            getattr(self._client.networks.get(arguments[0]), what)(name)
        elif what == "restart":
            container.restart(timeout=1)
        elif what == "remove":
            container.remove(force=True)
        else:
            getattr(container, what)(*arguments)

    def reaches(self, address: str, port: int = LISTENS) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=2):
            return True
        return False

    def resolves(self, asker: str, name: str) -> str | None:
        script = f"import socket; print(socket.gethostbyname({name!r}))"
        code, output = self._rig.docker.exec(asker, ("python3", "-c", script), 20)
        return output.strip() if code == 0 else None

    def volumes(self) -> frozenset[str]:
        return frozenset(volume.name or "" for volume in self._client.volumes.list() if (volume.name or "").startswith(self.server))

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        eventually(condition, seconds + 10, what)
