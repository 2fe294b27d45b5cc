"""What all benches share: the mode, servers in corners of their own, and the file that results go to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from tests.bench.results import Section
from tests.bench.server import Server
from tests.integration.conftest import Scope, docker_client, images, scope  # noqa: F401 - fixtures
from tests.integration.images import Images
from tests.remote import Remote

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))  # the load generator, which is also a program


@dataclass(frozen=True)
class Mode:
    """BENCH=quick takes minutes; the full mode has the numbers that the project is judged by."""

    quick: bool

    def pick(self, quick: int, full: int) -> int:
        return quick if self.quick else full

    @property
    def command(self) -> str:
        return "make bench BENCH=quick" if self.quick else "make bench"


@pytest.fixture(scope="session")
def mode() -> Mode:
    return Mode(os.environ.get("BENCH", "full") == "quick")


@pytest.fixture
def report(docker_client: docker.DockerClient, mode: Mode) -> Callable[[Section], None]:  # noqa: F811
    """Writes a section to RESULTS.md."""
    return lambda section: section.write(docker_client, mode.command)


@pytest.fixture
def server(
    scope: Scope,  # noqa: F811
    images: Images,  # noqa: F811
    git_remote: Remote,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> Iterator[Server]:
    """A server; its daemon is not started yet."""
    made = Server(scope.name, scope.client, images, git_remote, tmp_path, free_port)
    yield made
    made.end()
