"""A Docker Engine of the bench's own with `live-restore`, in a network namespace of its own, that can be restarted."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import docker
import docker.errors

from tests.waiting import eventually


class PrivateEngine:
    """`prefix` before a command runs it in the Engine's namespace, where its ports and its host listener are."""

    def __init__(self) -> None:
        # Sockets have short paths, so not below pytest's directory.
        self.directory = Path(tempfile.mkdtemp(prefix="bench-engine-"))
        self.url = f"unix://{self.directory}/docker.sock"
        self.namespace = f"bench-{uuid.uuid4().hex[:8]}"
        self.prefix = ("nsenter", f"--net=/var/run/netns/{self.namespace}")
        self._process: subprocess.Popen[bytes] | None = None
        for command in (["add", self.namespace], ["exec", self.namespace, "ip", "link", "set", "lo", "up"]):
            subprocess.run(["ip", "netns", *command], check=True, timeout=30)

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.url, timeout=60)

    def start(self) -> None:
        """Returns once it answers."""
        options = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        paths = [f"--{option}={self.directory / name}" for option, name in options.items()]
        with (self.directory / "log").open("ab") as log:
            command = [*self.prefix, "dockerd", "--live-restore", f"--host={self.url}", *paths]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(lambda: self.client().ping(), 90, self.story)

    def stop(self) -> None:
        """SIGTERM, and wait: with `live-restore` its containers go on."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(90)

    def restart(self) -> None:
        """As an upgrade of Docker does."""
        self.stop()
        self.start()

    def story(self) -> str:
        """The end of its log."""
        return (self.directory / "log").read_text()[-3000:]

    def remove(self) -> None:
        """Nothing of it stays behind."""
        with contextlib.suppress(docker.errors.DockerException, AssertionError):
            client = self.client()
            for container in client.containers.list(all=True):
                container.remove(force=True, v=True)
            self.stop()
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False, timeout=30)
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for place in reversed([place for place in mounted if Path(place).is_relative_to(self.directory)]):
            subprocess.run(["umount", "--lazy", place], check=False, timeout=30)
        shutil.rmtree(self.directory, ignore_errors=True)
