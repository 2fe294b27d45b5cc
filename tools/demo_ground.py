"""What the demo stands on: a bare Git repository, a person's clone of it, a reconciler as a process; and the removal of it all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import yaml

ROOT = Path(__file__).resolve().parent.parent
SERVER_LABEL = "reconciler.server"
NGINX_IMAGE = "reconciler-test/nginx:1"
BUILT = "reconciler/build:"
PREFERRED_PORT = 8088
END_SECONDS = 30.0
PERSON = {"GIT_AUTHOR_NAME": "Demo Person", "GIT_AUTHOR_EMAIL": "person@demo.invalid"}


class DemoError(Exception):
    """The demo cannot go on. The message says what to do."""


@dataclass(frozen=True)
class Ground:
    """Where everything of one demo is. `server` is on every container it makes, so that nothing else is ever removed."""

    directory: Path
    server: str
    project: str = "shop"
    env: str = "prod"

    @classmethod
    def of_this_tree(cls, directory: Path | None = None, name: str | None = None) -> Ground:
        """The same for every call in one checkout. `name`: the server's and the project's name, for tests that run side by side."""
        if name is not None:
            return cls(directory or ROOT / ".demo", name, name)
        return cls(directory or ROOT / ".demo", "demo-" + hashlib.sha256(str(ROOT).encode()).hexdigest()[:6])

    @property
    def bare(self) -> Path:
        """The repository that plays the Git host."""
        return self.directory / "shop.git"

    @property
    def clone(self) -> Path:
        """A person's clone."""
        return self.directory / "shop"

    @property
    def log(self) -> Path:
        """What the reconciler says."""
        return self.directory / "reconciler.log"

    @property
    def settings(self) -> Path:
        return self.directory / "reconciler.yaml"

    @property
    def pid_file(self) -> Path:
        return self.directory / "reconciler.pid"

    def service(self, name: str) -> str:
        """The key of a service of the sample."""
        return f"{self.project}/{self.env}/{name}"

    @property
    def project_file(self) -> Path:
        """The sample's config, in the clone."""
        return self.clone / "projects" / self.project / f"{self.env}.yaml"

    # --- making

    def repository(self) -> None:
        """sample-repo/ as a bare repository, and a clone of it."""
        self.directory.mkdir(parents=True)
        git(self.directory, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        git(self.directory, "clone", "--quiet", str(self.bare), str(self.clone))
        shutil.copytree(ROOT / "sample-repo", self.clone, dirs_exist_ok=True)
        if self.project != "shop":
            (self.clone / "projects/shop").rename(self.project_file.parent)
            self.edit(self.project_file, "name: shop\n", f"name: {self.project}\n")
        self.edit(self.clone / "cluster.yaml", "  demo:", f"  {self.server}:")

    def edit(self, path: Path, old: str, new: str) -> None:
        """As a person would. Raises DemoError when the sample is not what the story expects."""
        text = path.read_text()
        if text.count(old) != 1:
            raise DemoError(f"{path.relative_to(self.clone)}: found {text.count(old)} times {old!r}, expected once")
        path.write_text(text.replace(old, new))

    def commit(self, message: str) -> str:
        """Commit what was edited, and push it. Returns the commit's object id."""
        git(self.clone, "add", "--all")
        git(self.clone, "commit", "--quiet", "-m", message)
        return self._pushed()

    def revert(self, commit: str) -> str:
        """`git revert`, pushed. Returns the new commit's object id."""
        git(self.clone, "revert", "--no-edit", commit)
        return self._pushed()

    def _pushed(self) -> str:
        git(self.clone, "push", "--quiet", "origin", "HEAD:main")
        return git(self.clone, "rev-parse", "HEAD")

    def write_settings(self, edge_port: int) -> None:
        """The settings file of the demo's server."""
        settings: Mapping[str, object] = {
            "repo": str(self.bare),
            "server": self.server,
            "state_dir": str(self.directory / "state"),
            "local_dir": str(self.directory / "local"),
            "docker": os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock",
            "nginx_image": NGINX_IMAGE,
            "edge_ports": [edge_port],
            "edge_address": "127.0.0.1",
            # Names of their own: a container called nginx may well be there already.
            "edge_name": f"{self.server}_nginx",
            "host_name": f"{self.server}_nginx_host",
            "host_generation_port": free_port(),
            "poll_interval": "5s",
            "status": {"max_pushes_per_minute": 60},
        }
        self.settings.write_text(yaml.safe_dump(settings, sort_keys=False))

    def start(self) -> Reconciler:
        """The daemon, as a process that outlives the demo."""
        program = Path(sys.executable).with_name("reconcile")
        command = [str(program), "run", "--config", str(self.settings)]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.directory, start_new_session=True
            )
        self.pid_file.write_text(f"{process.pid}\n")
        return Reconciler(process, command)

    # --- removing

    def exists(self) -> bool:
        return self.directory.exists()

    def remove(self, client: docker.DockerClient) -> list[str]:
        """End the reconciler by its pid; remove containers, networks, volumes and images of this demo, and its directory.

        Returns what was removed, in words.
        """
        removed = []
        if self._end_reconciler():
            removed.append("the reconciler's process")
        images = self._images()
        containers = client.containers.list(all=True, filters={"label": f"{SERVER_LABEL}={self.server}"}, ignore_removed=True)
        volumes = {m["Name"] for c in containers for m in c.attrs["Mounts"] if m["Type"] == "volume"}
        # A sidecar owns its application's network: it goes last.
        for container in sorted(containers, key=lambda c: c.labels.get("reconciler.role") != "application"):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True)
        removed += _counted(len(containers), "container")
        networks = client.networks.list(filters={"label": f"{SERVER_LABEL}={self.server}"})
        for network in networks:
            with contextlib.suppress(docker.errors.NotFound):
                network.remove()
        removed += _counted(len(networks), "network")
        for name in sorted(volumes):
            with contextlib.suppress(docker.errors.NotFound):
                client.volumes.get(name).remove()
        removed += [f"the volume {name} (its data was the demo's)" for name in sorted(volumes)]
        removed += _counted(sum(_image_removed(client, image) for image in images), "built image")
        if self.directory.exists():
            shutil.rmtree(self.directory)
            removed.append(str(self.directory))
        return removed

    def _end_reconciler(self) -> bool:
        try:
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            return False
        if str(self.settings) not in command:
            return False  # the number was given to another process
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + END_SECONDS
            while _alive(pid):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
        return True

    def _images(self) -> set[str]:
        """Ids of every image that a container of this demo was made from, as the reconciler's log tells."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return set()
        return set(re.findall(r"create \S+ from (sha256:[0-9a-f]{64})", text))


@dataclass
class Reconciler:
    """The daemon's process."""

    process: subprocess.Popen[bytes]
    command: list[str]

    @property
    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()


def git(directory: Path, *arguments: str) -> str:
    """Run git as the demo's person, away from the developer's own settings. Raises DemoError with git's words."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    names = {**PERSON, **{name.replace("AUTHOR", "COMMITTER"): value for name, value in PERSON.items()}}
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-C", str(directory), *arguments]
    ran = subprocess.run(
        command, env={**clean, **names, **own}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    if ran.returncode != 0:
        raise DemoError(f"git {' '.join(arguments)}: {ran.stderr.strip()}")
    return ran.stdout.strip()


def free_port(preferred: int = 0) -> int:
    """A TCP port of 127.0.0.1 where nothing listens; the preferred one if it is free."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a demo before may linger there
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            return found
    raise DemoError("no free port on 127.0.0.1")


def taken_names(client: docker.DockerClient, ground: Ground) -> list[str]:
    """Containers, not of this demo, that have names which it needs."""
    prefix = f"{ground.project}_{ground.env}_"
    found = client.containers.list(all=True, filters={"name": prefix}, ignore_removed=True)
    others = [c for c in found if str(c.name).startswith(prefix) and c.labels.get(SERVER_LABEL) != ground.server]
    return sorted(f"{c.name} (of {c.labels.get(SERVER_LABEL, 'no reconciler')})" for c in others)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _image_removed(client: docker.DockerClient, image: str) -> bool:
    """Remove an image if the reconciler built it and nothing uses it."""
    try:
        tags = client.images.get(image).tags
        if not tags or not all(tag.startswith(BUILT) for tag in tags):
            return False
        for tag in tags:
            client.images.remove(tag)
    except docker.errors.APIError:
        return False
    return True


def _counted(number: int, noun: str) -> list[str]:
    return [f"{number} {noun}{'' if number == 1 else 's'}"] if number else []
