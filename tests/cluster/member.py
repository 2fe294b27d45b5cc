"""One server of the bed: a namespace, a Docker daemon, and the reconciler's own daemon process."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.engines import Engine
from tests.cluster.namespaces import Namespace, alive, end
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
EDGE_PORT = 80
POLL = "2s"


class Member:
    """A server as an operator has it. `reset` makes it a new machine with the images on it."""

    def __init__(self, name: str, namespace: Namespace, directory: Path) -> None:
        self.name = name
        self.namespace = namespace
        self.directory = directory
        self.engine = Engine(namespace, directory / "docker")
        self.settings: dict[str, Any] = {}
        self.program = ROOT
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return self.namespace.address

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def log(self) -> Path:
        return self.directory / "reconciler.log"

    @property
    def said(self) -> str:
        """Everything that the reconciler's daemon has said since the reset."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def reset(self, settings: Mapping[str, Any]) -> None:
        """A new machine with this settings file: nothing runs, nothing is remembered."""
        self.kill()
        self.program = ROOT
        self.namespace.heal()
        if not self.engine.running:
            self.engine.start()
        self.engine.reset()
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.rmtree(self.directory / "local", ignore_errors=True)
        self.log.unlink(missing_ok=True)
        self.settings = {
            "server": self.name,
            "state_dir": str(self.state),
            "local_dir": str(self.directory / "local"),
            "docker": self.engine.url,
            "edge_address": self.address,
            "poll_interval": POLL,
            "git_timeout": "10s",
            **settings,
        }

    # --- the daemon process

    def run(self, **environment: str) -> None:
        """Start the reconciler's daemon inside the namespace: the package `reconciler` in the directory `program`."""
        assert self._process is None or self._process.poll() is not None, f"{self.name} runs already"
        file = self.directory / "reconciler.yaml"
        file.write_text(yaml.safe_dump(self.settings))
        command = self.namespace.enter(sys.executable, "-m", "reconciler", "--config", str(file), "run")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.program,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """SIGTERM; traffic goes on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)

    def kill(self) -> None:
        """SIGKILL; traffic goes on."""
        if self._process is not None and alive(self._process.pid):
            self.thaw()
            end([self._process.pid])
            self._process.wait(30)

    def freeze(self) -> None:
        """The daemon does nothing any more, and does not know it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def power_off(self) -> None:
        """Everything of the machine ends at once and nothing answers at its address."""
        self.namespace.unplug()
        self.kill()
        self.engine.kill()
        self.namespace.forget()

    def power_on(self) -> None:
        """The machine boots: Docker, then the reconciler."""
        self.namespace.heal()
        self.engine.start()
        self.run()

    # --- what there is

    def ids(self, prefix: str = "") -> dict[str, str]:
        """Ids and start times of running containers by name: equal means that nothing was restarted."""
        found = self.engine.client.containers.list(ignore_removed=True)
        return {str(c.name): f"{c.id} {c.attrs['State']['StartedAt']}" for c in found if str(c.name).startswith(prefix)}

    def published(self) -> dict[str, set[str]]:
        """Host addresses that ports are published on, by container name."""
        found: dict[str, set[str]] = {}
        for container in self.engine.client.containers.list(ignore_removed=True):
            for bindings in container.attrs["NetworkSettings"]["Ports"].values():
                for binding in bindings or ():
                    found.setdefault(str(container.name), set()).add(binding["HostIp"])
        return found

    def shell(self, container: str, *command: str) -> str:
        """What a command says inside a container."""
        code, output = self.engine.client.containers.get(container).exec_run(list(command))
        text = bytes(output).decode()  # type: ignore[arg-type]
        assert code == 0, text
        return text

    def inside(self, container: str, *command: str) -> tuple[str, ...]:
        """A command of this machine, begun in a running container's network namespace."""
        pid = self.engine.client.containers.get(container).attrs["State"]["Pid"]
        return ("nsenter", f"--net=/proc/{pid}/ns/net", "--", *command)

    def answers(self, times: int = 24, path: str = "/", field: str = "hostname") -> set[str]:
        """What that many requests to the edge were answered: by default the instances, by their containers' host names."""
        found = [self.get(path) for _ in range(times)]
        failed = [(status, body) for status, body in found if status != 200]
        assert not failed, (
            f"{len(failed)} of {times} requests to {self.name}'s edge had another answer than 200: {str(failed[0])[:99]}"
        )
        return {str(body[field]) for _, body in found}

    def host_name(self, container: str) -> str:
        """What an instance answers as `hostname`: its sidecar's, as that has the namespace."""
        return str(self.engine.client.containers.get(container).attrs["Config"]["Hostname"])

    def get(self, path: str = "/", host: str = "shop.example", timeout: float = 10.0) -> tuple[int, Any]:
        """GET from this server's edge, from a process in its namespace: status and body, as JSON if it is that."""
        with _Through(self.namespace, EDGE_PORT, timeout) as connection:
            connection.request("GET", path, headers={"Host": host, "Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode()
            try:
                return response.status, json.loads(body)
            except ValueError:
                return response.status, body

    def version(self) -> str:
        """The version that the edge's `/` shows."""
        status, body = self.get()
        assert status == 200, body
        return str(body["version"])

    def says(self, text: str, seconds: float = 60.0) -> None:
        """Waits until the daemon has said that."""
        eventually(lambda: text in self.said, seconds, lambda: f"{self.name} to say {text!r}:\n{self.said[-3000:]}")


class _Through(http.client.HTTPConnection):
    """A connection to the namespace's own address that begins inside it."""

    def __init__(self, namespace: Namespace, port: int, timeout: float) -> None:
        super().__init__(namespace.address, port, timeout=timeout)
        self._namespace = namespace

    def connect(self) -> None:
        self.sock = self._namespace.connect(self.port, self.timeout or 10.0)

    def __enter__(self) -> _Through:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
