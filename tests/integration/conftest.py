"""A real Docker Engine for tests, with names of their own and a cleanup that touches nothing else."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import docker
import docker.errors
import pytest
from docker.models.containers import Container
from docker.models.networks import Network

from reconciler.ports import internal_port
from tests.conftest import docker_problem
from tests.integration import images as image_store
from tests.integration.images import Images
from tests.waiting import eventually

SERVICES = frozenset(
    ("a-command", "a-docker", "a-http", "a-tcp", "api", "cache", "db", "echo", "fine", "late", "more", "never", "one", "redis")
) | {"store", "web"}
"""What services of the tests are called: their internal ports are computed from the project's name, and must not coincide."""
SCOPE_LABEL = "reconciler-test.scope"
SERVER_LABEL = "reconciler.server"


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    """The Engine of the environment. Fails, with what to do, when none answers."""
    if problem := docker_problem():
        pytest.fail(problem, pytrace=False)
    client = docker.from_env(timeout=60)
    yield client
    client.close()


@pytest.fixture(scope="session")
def images(docker_client: docker.DockerClient) -> Images:
    """The tags of the test images, all of which are there."""
    return image_store.ensure()


@dataclass(frozen=True)
class Scope:
    """One test's own corner of the Docker Engine.

    `name` is unique and valid as a project, service or server name. What `run` and `network` make, what carries the label
    `reconciler.server=<name>` and what is called `<name>_...` is removed at the end, volumes included.
    """

    client: docker.DockerClient
    name: str
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def server(self) -> str:
        """The server name to give to the code under test, so that what it makes is found again."""
        return self.name

    def run(
        self,
        image: str,
        suffix: str = "app",
        *,
        env: dict[str, str] | None = None,
        network: str | None = None,
        ports: dict[str, tuple[str, int]] | None = None,
        command: list[str] | None = None,
        labels: dict[str, str] | None = None,
    ) -> Container:
        """Starts a container called `<name>_<suffix>`. `network` is a network's name, `host` or `container:NAME`."""
        return self.client.containers.run(
            image,
            command,
            name=f"{self.name}_{suffix}",
            detach=True,
            environment=env or {},
            network_mode=network or "bridge",
            ports=ports or {},
            labels={**self.labels, **(labels or {})},
        )

    def network(self, suffix: str = "network", subnet: str | None = None) -> Network:
        """Makes a bridge network called `<name>_<suffix>`, with the subnet given or one that Docker picks."""
        ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)]) if subnet else None
        return self.client.networks.create(f"{self.name}_{suffix}", driver="bridge", ipam=ipam, labels=self.labels)

    def containers(self) -> list[Container]:
        """Every container of this scope, stopped ones too."""
        found: dict[str, Container] = {}
        for filters in self._filters():
            for container in self.client.containers.list(all=True, filters=filters, ignore_removed=True):
                found[container.id or ""] = container
        return list(found.values())

    def remove_everything(self) -> None:
        """Removes this scope's containers, networks and volumes."""
        # Sidecars last: an application lives in its sidecar's namespace.
        for container in sorted(self.containers(), key=lambda found: (found.name or "").endswith("_sidecar")):
            eventually(lambda: _gone(lambda: container.remove(force=True, v=True)), 60, f"{container.name} to be removed")  # noqa: B023
        for filters in self._filters():
            for network in self.client.networks.list(filters=filters):
                eventually(lambda: _gone(network.remove), 60, f"{network.name} to be removed")  # noqa: B023
            for volume in self.client.volumes.list(filters=filters):
                with contextlib.suppress(docker.errors.NotFound):
                    volume.remove(force=True)

    def _filters(self) -> tuple[dict[str, str | list[str] | bool], ...]:
        return (
            {"label": f"{SCOPE_LABEL}={self.name}"},
            {"label": f"{SERVER_LABEL}={self.name}"},
            {"name": f"{self.name}_"},
        )


def _gone(remove: Callable[[], object]) -> bool:
    """Raises for what Docker refuses while it is still busy with what a killed program asked for, such as the same removal."""
    with contextlib.suppress(docker.errors.NotFound):
        remove()
    return True


def own_name() -> str:
    """A unique name for a scope, and with that for a project: one in ten would have two services with the same internal port."""
    while True:
        name = f"test-{uuid.uuid4().hex[:8]}"
        if len({internal_port(name, "prod", service) for service in SERVICES}) == len(SERVICES):
            return name


@pytest.fixture
def scope(docker_client: docker.DockerClient) -> Iterator[Scope]:
    """A unique name prefix, and a cleanup of everything that was made under it."""
    name = own_name()
    scope = Scope(docker_client, name, {SCOPE_LABEL: name})
    yield scope
    scope.remove_everything()
