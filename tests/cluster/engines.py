"""A Docker daemon of its own for each server of the bed: started by hand inside the server's namespace, ended by its pid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import docker
import docker.errors

from tests.cluster.namespaces import Namespace, alive, descendants, end, processes_of, unmount
from tests.waiting import eventually


class Engine:
    """One dockerd with its data below `directory`. `client` talks to it."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self._namespace = namespace
        self._directory = directory
        directory.mkdir(parents=True)
        (directory / "daemon.json").write_text("{}")  # not the machine's own
        self._process: subprocess.Popen[bytes] | None = None
        self.client: docker.DockerClient
        self.log = directory / "dockerd.log"

    @property
    def url(self) -> str:
        return f"unix://{self._directory}/docker.sock"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def begin(self) -> None:
        """Start the daemon, without waiting."""
        (self._directory / "docker.pid").unlink(missing_ok=True)
        command = self._namespace.enter(
            "dockerd",
            f"--data-root={self._directory}/data",
            f"--exec-root={self._directory}/exec",
            f"--pidfile={self._directory}/docker.pid",
            f"--host={self.url}",
            "--bip=172.31.255.1/24",
            f"--config-file={self._directory}/daemon.json",
        )
        # The machine may be able to reach nothing outside; a proxy of its own is no business of the daemon either.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def ready(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            assert self.running, f"dockerd ended:\n{self.log.read_text()[-2000:]}"
            client = docker.DockerClient(self.url, version="1.41", timeout=60)
            try:
                client.ping()
            except Exception:
                client.close()
                raise
            self.client = client
            return True

        eventually(answers, 60, lambda: f"dockerd to answer:\n{self.log.read_text()[-2000:]}")

    def start(self) -> None:
        self.begin()
        self.ready()

    def stop(self) -> None:
        """As `systemctl stop docker`: containers end, each after its own grace."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
        self.kill()

    def kill(self) -> None:
        """As a power cut: the daemon and every process of every container, at once."""
        if self._process is None:
            return
        # Whoever would start a container again goes first: one with `restart: always` is back before a daemon that ends last.
        starting = {self._process.pid, *descendants(self._process.pid)}
        end([pid for pid in starting if alive(pid)])
        while left := [pid for pid in processes_of(self._directory) if alive(pid)]:
            end(left)
        self._process.wait(30)
        self._process = None
        unmount(self._directory / "exec")
        unmount(self._directory / "data")

    def containers(self) -> dict[str, str]:
        """Container ids by name, of those that run."""
        return {str(c.name): str(c.id) for c in self.client.containers.list(ignore_removed=True)}

    def load(self, images: Path) -> None:
        """Load images that `docker save` wrote."""
        command = ["docker", "--host", self.url, "load", "--quiet", "--input", str(images)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)

    def reset(self) -> None:
        """No containers, no networks and no volumes; images stay."""
        client = self.client
        # Sidecars last: an application lives in its sidecar's namespace.
        found = client.containers.list(all=True, ignore_removed=True)
        for container in sorted(found, key=lambda c: (c.name or "").endswith("_sidecar")):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
        for network in client.networks.list():
            if network.name not in ("bridge", "host", "none"):
                network.remove()
        for volume in client.volumes.list():
            volume.remove(force=True)
