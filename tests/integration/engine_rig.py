"""A Docker Engine of a test's own, in a network namespace of its own, that may be stopped and started."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

import docker

from tests.cluster.namespaces import alive, descendants, end, processes_of, unmount
from tests.waiting import eventually


class Engine:
    """`client` speaks to it while it is up. Its containers' ports are reachable inside its namespace alone."""

    def __init__(self) -> None:
        # Not below pytest's own directory: the paths of sockets have to be short.
        self._directory = directory = Path(tempfile.mkdtemp(prefix="engine-"))
        self._namespace = f"test-{uuid.uuid4().hex[:8]}"
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = directory / "docker.sock"
        self.url = f"unix://{self.socket}"
        _run("ip", "netns", "add", self._namespace)
        _run("ip", "-n", self._namespace, "link", "set", "lo", "up")

    @property
    def inside(self) -> tuple[str, ...]:
        """What to put before a command that is to run where its containers can be reached."""
        return ("nsenter", f"--net=/var/run/netns/{self._namespace}", "--")

    @property
    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.url, timeout=60)

    def start(self) -> None:
        """Returns once it answers."""
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        with (self._directory / "log").open("ab") as log:
            # Not `ip netns exec`: that hides the control groups.
            self._process = subprocess.Popen(
                [
                    *(*self.inside, "dockerd", f"--host={self.url}"),
                    *(f"--{option}={self._directory / name}" for option, name in places.items()),
                ],
                stdout=log,
                stderr=log,
            )
        eventually(lambda: self.client.ping(), 60, lambda: (self._directory / "log").read_text()[-2000:])

    def stop(self) -> None:
        """As a reboot or an upgrade of Docker does: its containers end with it."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()

    def cut(self) -> None:
        """As a power cut does: the daemon and every process of every container end at once."""
        process, self._process = self._process, None
        if process is not None:
            pids = {process.pid, *descendants(process.pid), *processes_of(self._directory)}
            end([pid for pid in pids if alive(pid)])
            process.wait(30)
            for place in ("exec", "data"):
                unmount(self._directory / place)
            shutil.rmtree(self._directory / "exec", ignore_errors=True)  # on a server it lies in memory
            (self._directory / "pid").unlink(missing_ok=True)

    def remove(self) -> None:
        """Stop it, and leave nothing of it behind."""
        if self._process is not None:
            with suppress(docker.errors.DockerException):
                for container in self.client.containers.list(all=True):
                    container.remove(force=True, v=True)
        self.stop()
        subprocess.run(["ip", "netns", "del", self._namespace], check=False, timeout=30)
        # dockerd leaves mounts of network namespaces, and its directory mounted on itself if it could not begin.
        points = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for point in reversed([point for point in points if point.startswith(f"{self._directory}/")]):
            _run("umount", point)
        shutil.rmtree(self._directory, ignore_errors=True)


def _run(*arguments: str) -> None:
    subprocess.run(arguments, check=True, timeout=30)
