"""Removes what killed test runs left: in Docker, containers, networks and volumes of tests, known by their labels and names; on the
machine, the test beds of several servers (directories, network namespaces, Docker daemons and all that runs in them).

Nothing else is touched, and no bed whose run still goes on. Do not run it while tests run: those in Docker have no such mark.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path

import docker
import docker.errors

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster.namespaces import sweep

TEST_NAME = re.compile(r"^test-[0-9a-f]{8}(_|$)")
LABELS = ("reconciler-test.scope", "reconciler.server")


def main() -> int:
    """Returns 0; without an Engine, or without the rights to end a bed, there is nothing to remove."""
    beds = sweep() if os.geteuid() == 0 else ()
    if beds:
        print(f"leftovers: removed test beds of several servers: {', '.join(beds)}")
    try:
        client = docker.from_env(timeout=60)
    except docker.errors.DockerException:
        return 0
    removed = _in_docker(client)
    if removed:
        print(f"leftovers: removed {removed} containers, networks and volumes of tests")
    return 0


def _in_docker(client: docker.DockerClient) -> int:
    removed = 0
    for container in client.containers.list(all=True, ignore_removed=True):
        if _of_a_test(container.labels, container.name or ""):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
                removed += 1
    for network in client.networks.list():
        if _of_a_test(network.attrs.get("Labels") or {}, network.name or ""):
            with contextlib.suppress(docker.errors.APIError):
                network.remove()
                removed += 1
    for volume in client.volumes.list():
        if _of_a_test(volume.attrs.get("Labels") or {}, volume.name or ""):
            with contextlib.suppress(docker.errors.APIError):
                volume.remove()
                removed += 1
    return removed


def _of_a_test(labels: dict[str, str], name: str) -> bool:
    return bool(TEST_NAME.match(name)) or any(TEST_NAME.match(labels.get(label, "")) for label in LABELS)


if __name__ == "__main__":
    sys.exit(main())
