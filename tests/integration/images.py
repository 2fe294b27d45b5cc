"""The images of the integration tests. `tools/images.py` provides them; here are their names and the copying to other daemons."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import docker

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Images:
    """Tags that are there once `ensure` has returned."""

    nginx: str = "reconciler-test/nginx:1"
    python: str = "reconciler-test/python:1"
    app: str = "reconciler-test/app:1"
    redis: str = "redis:7-alpine"
    postgres: str = "postgres:15"
    postgres_newer: str = "postgres:16"
    base: str = "reconciler-base/python:3"


def ensure() -> Images:
    """Provides every image on the default daemon: under a second when they are there, half a minute when not."""
    result = subprocess.run([sys.executable, str(ROOT / "tools/images.py")], capture_output=True, text=True, timeout=900)
    if result.returncode != 0:
        raise RuntimeError(f"tools/images.py failed:\n{result.stdout}{result.stderr}")
    return Images()


def copy(source: docker.DockerClient, target: docker.DockerClient, tags: tuple[str, ...]) -> None:
    """Copies the images with their tags from one daemon to another, as a server that cannot reach a registry needs."""
    for tag in tags:
        target.images.load(b"".join(source.images.get(tag).save(named=tag)))
