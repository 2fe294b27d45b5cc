"""One server whose daemon is a process of its own, so that it can be killed, frozen and weighed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import yaml

from reconciler.model.cluster import ClusterState
from reconciler.ports import internal_port
from tests.integration.images import Images
from tests.remote import Remote
from tests.waiting import eventually

ENV = "prod"
ROOT = Path(__file__).resolve().parents[2]
SOCKET = "unix:///var/run/docker.sock"
QUICK = {"http": "/up", "interval": "200ms", "timeout": "1s", "retries": 20}


@dataclass(frozen=True)
class Line:
    """What the daemon told: a line of its log, or an effect before or after it was carried out. `at`: monotonic seconds."""

    at: float
    say: str = ""
    when: str = ""
    effect: str = ""
    name: str = ""


@dataclass
class Server:
    """`name` is the server's and the project's name. `prefix` stands before the daemon's command, such as nsenter's."""

    name: str
    client: docker.DockerClient
    images: Images
    remote: Remote
    directory: Path
    free_port: Callable[[], int]
    socket: str = SOCKET
    prefix: tuple[str, ...] = ()
    lines: list[Line] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        self.edge_port = self.free_port()
        self.edge_name = f"{self.name}_nginx"
        self.host_name = f"{self.name}_nginx_host"
        self.state = self.directory / "state"
        self.settings = self.directory / "settings.yaml"
        self._log = (self.directory / "daemon.log").open("a")
        self.settings.write_text(
            yaml.safe_dump(
                {
                    "repo": str(self.remote.path),
                    "server": self.name,
                    "state_dir": str(self.state),
                    "local_dir": str(self.directory / "local"),
                    "docker": self.socket,
                    "nginx_image": self.images.nginx,
                    "edge_ports": [self.edge_port],
                    "edge_address": "127.0.0.1",
                    "edge_name": self.edge_name,
                    "host_name": self.host_name,
                    "network_pool": f"10.{64 + zlib.crc32(self.name.encode()) % 128}.0.0/16",
                    "host_generation_port": self.free_port(),
                    "status": {"max_pushes_per_minute": 60},
                }
            )
        )

    # --- the process

    def start(self) -> None:
        """Start the daemon; returns at once."""
        command = [*self.prefix, sys.executable, "-m", "tests.bench.daemon_process", str(self.settings)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=ROOT, env=environment)
        threading.Thread(target=self._read, args=(self.process,), name="daemon's words", daemon=True).start()

    def send(self, number: signal.Signals) -> None:
        """A signal to the daemon."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def end(self) -> None:
        """SIGTERM, and wait. SIGKILL if that takes more than half a minute."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for text in process.stdout:
            self._log.write(text)
            self._log.flush()
            self.lines.append(Line(**json.loads(text)))

    def story(self) -> str:
        """The end of what it said."""
        return "\n".join(str(line) for line in self.lines[-40:]) + "\n" + (self.directory / "daemon.log").read_text()[-3000:]

    # --- the config

    def app(self, version: str, **given: object) -> dict[str, Any]:
        """The test application as a service."""
        env = {"VERSION": version, **given.pop("env", {})}  # type: ignore[dict-item]
        return {"image": self.images.app, "port": 8080, "health": QUICK, "needs": {}, "env": env, **given}

    def commit(self, services: Mapping[str, Mapping[str, Any]], message: str = "change") -> str:
        """Commit the project's file. Returns the revision."""
        return self.remote.commit(self.files(services), message)

    def files(self, services: Mapping[str, Mapping[str, Any]]) -> dict[str, str | bytes | None]:
        """The inventory and the project's file."""
        project = {"project": {"name": self.name, "services": dict(services)}}
        return {
            "cluster.yaml": json.dumps({"servers": {self.name: {}}}),
            f"projects/{self.name}/{ENV}.yaml": json.dumps(project),
        }

    def port(self, service: str) -> int:
        """The internal port."""
        return internal_port(self.name, ENV, service)

    # --- what there is

    def cluster(self) -> ClusterState | None:
        """The decision as the daemon keeps it on its disk."""
        try:
            return ClusterState.model_validate(json.loads((self.state / "cluster.json").read_bytes())["cluster"])
        except (OSError, ValueError):
            return None

    def done(self, revision: str) -> bool:
        """Whether every rollout of this revision is over: switched, drained, the old slots removed."""
        cluster = self.cluster()
        if cluster is None or cluster.config != revision or not cluster.services:
            return False
        return all(
            state.live is not None and (state.rollout is None or state.rollout.phase == "done") and state.held is None
            for state in cluster.services.values()
        )

    def wait(self, revision: str, seconds: float = 120.0) -> None:
        """Until `done`."""
        eventually(lambda: self.done(revision), seconds, lambda: f"{revision[:7]} done: {self.cluster()}\n{self.story()}")

    def since(self, at: float) -> list[Line]:
        """What was told after a moment."""
        return [line for line in list(self.lines) if line.at >= at]

    def running(self) -> int:
        """Containers of this server."""
        return len(self.client.containers.list(filters={"label": f"reconciler.server={self.name}"}, ignore_removed=True))

    def pid_of(self, container: str) -> int:
        """The process id of a container on the host."""
        return int(self.client.containers.get(container).attrs["State"]["Pid"])


def now() -> float:
    """The clock that all processes of this machine share."""
    return time.monotonic()
