"""Removes what killed test runs left in Docker: containers, networks and volumes of tests, known by their labels and names.

Nothing else is touched. Do not run it while tests run.
"""

from __future__ import annotations

import contextlib
import re
import sys

import docker
import docker.errors

TEST_NAME = re.compile(r"^test-[0-9a-f]{8}(_|$)")
LABELS = ("reconciler-test.scope", "reconciler.server")


def main() -> int:
    """Returns 0; without an Engine there is nothing to remove."""
    try:
        client = docker.from_env(timeout=60)
    except docker.errors.DockerException:
        return 0
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
    if removed:
        print(f"leftovers: removed {removed} containers, networks and volumes of tests")
    return 0


def _of_a_test(labels: dict[str, str], name: str) -> bool:
    return bool(TEST_NAME.match(name)) or any(TEST_NAME.match(labels.get(label, "")) for label in LABELS)


if __name__ == "__main__":
    sys.exit(main())
