"""One whole server under test: the real engine on a real Docker Engine, nginx and Git, in a corner of its own.

Several of them can run on one Docker Engine: each has its own names, network pool, ports and state directory.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.models.containers import Container as ByHand

from reconciler.engine.loop import Settled, Wake, until_settled
from reconciler.engine.polling import POLL_JOB, RECALL_JOB
from reconciler.engine.publishing import PUSH_JOB
from reconciler.engine.settings import Settings, StatusSettings
from reconciler.engine.wiring import Wired, wire
from reconciler.engine.world import Outcome
from reconciler.model.cluster import ClusterState
from reconciler.model.effect import Effect
from reconciler.model.identity import ServiceKey
from reconciler.model.report import Report
from reconciler.ports import internal_port
from tests.integration.conftest import SERVICES, Scope
from tests.integration.images import Images
from tests.remote import Remote
from tests.waiting import eventually

ENV = "prod"
SOCKET = "unix:///var/run/docker.sock"
QUICK = {"http": "/up", "interval": "200ms", "timeout": "2s", "retries": 75}
"""A health gate that passes within half a second of a healthy start, on a loaded machine too, where starting takes seconds."""
FAILING = {**QUICK, "start_period": "6s", "retries": 5}
"""For an application that fails it: over after seven seconds, when it has begun to listen on a busy machine too."""

Service = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a client got from HTTP."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """Passes run in this process, one thread at a time; `settle` is what `reconcile --once` does.

    `project` is also the server's and the scope's name. `effects` are the kinds of everything carried out, with what it concerned.
    """

    scope: Scope
    images: Images
    remote: Remote
    directory: Path
    free_port: Callable[[], int]
    docker_url: str = SOCKET
    given: Mapping[str, Any] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    on_effect: Callable[[Effect], object] = lambda effect: None

    def __post_init__(self) -> None:
        self.name = self.scope.name
        self.project = self.scope.name
        self.edge_port = self.free_port()
        # A /16 for each, so that servers that start at the same time do not pick the same subnet.
        self.pool = f"10.{64 + zlib.crc32(self.name.encode()) % 128}.0.0/16"
        self.settings = Settings.model_validate(
            {
                "repo": str(self.remote.path),
                "server": self.name,
                "state_dir": self.directory / "state",
                "local_dir": self.directory / "local",
                "docker": self.docker_url,
                "nginx_image": self.images.nginx,
                "edge_ports": (self.edge_port,),
                "edge_address": "127.0.0.1",
                "edge_name": f"{self.name}_nginx",
                "host_name": f"{self.name}_nginx_host",
                "network_pool": self.pool,
                "generation_port": 4999,
                "host_generation_port": self.free_port(),
                # The budget for reports that nobody waits for is tested by itself.
                "status": StatusSettings(max_pushes_per_minute=60),
                **self.given,
            }
        )
        self._open()

    # --- running the program

    def _open(self) -> None:
        self.wake = Wake()

        def watch(when: str, effect: Effect) -> None:
            if when == "before":
                self.effects.append(effect)
                self.on_effect(effect)

        self.wired: Wired = wire(self.settings, self.wake.ring, self.said.append, watch)

    def close(self) -> None:
        """As when the process ends, but tidy: jobs under way have ended."""
        eventually(lambda: not self._busy(), 90, "background jobs to end")
        self.wired.close()

    def _busy(self) -> bool:
        self.wired.jobs.take()
        return self.wired.jobs.busy()

    def restart(self, *, forget: bool = False) -> None:
        """The program is started anew. `forget`: with an empty state directory; nginx's own directories stay, they are mounted."""
        self.close()
        if forget:
            for path in self.settings.state_dir.iterdir():
                if path.name == "nginx":
                    continue
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._open()

    def settle(self, timeout: float = 120.0) -> Settled:
        """`reconcile --once`: passes until nothing is left to do now. Fails when rollouts are still under way after `timeout` s."""
        while self.wired.jobs.running(POLL_JOB):
            self.step()  # one that is under way may have begun before the commit that is waited for
            self.wake.wait(0.1)
        settled = until_settled(self.wired.cycle, self.wired.jobs, self.wake, timeout=timeout, progress=lambda outcome: None)
        cycle, jobs = self.wired.cycle, [name for name in (POLL_JOB, RECALL_JOB, PUSH_JOB) if self.wired.jobs.running(name)]
        assert not settled.timed_out, (
            f"not settled in {timeout:g} s: {settled.outcome}; under way {jobs or self.wired.jobs.busy()}, to push "
            f"{cycle.publisher.pending} ({cycle.publisher.error}), its turn {cycle.deciding}\n" + self.story()
        )
        return settled

    def run_until(self, condition: Callable[[], object], timeout: float = 60.0, what: str = "the condition") -> None:
        """Passes, with a poll every second, as the daemon does, until the condition holds. An exception counts as "not yet"."""
        end = time.monotonic() + timeout
        polled = 0.0
        while not _holds(condition):
            assert time.monotonic() < end, f"not within {timeout:g} s: {what}\n" + self.story()
            if time.monotonic() - polled > 1.0 and self.wired.cycle.poll():
                polled = time.monotonic()
            outcome = self.step()
            self.wake.wait(0.0 if outcome.busy else min(outcome.next_in or 0.2, 0.2))

    def step(self) -> Outcome:
        """One pass, without a poll."""
        return self.wired.cycle.step(flush=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Passes in a thread of their own, as the daemon does, for tests that are clients at the same time."""
        stop = threading.Event()
        failed: list[BaseException] = []

        def loop() -> None:
            try:
                self.run_until(stop.is_set, 600)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=loop, name="passes")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            self.wake.ring()
            thread.join()
        if failed:
            raise failed[0]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Docker's events are followed in the background, as the daemon does."""
        connected = threading.Event()

        def follow() -> None:
            for event in self.wired.docker.events():
                if event.kind == "connected":
                    connected.set()
                self.wake.ring()

        thread = threading.Thread(target=follow, name="events", daemon=True)
        thread.start()
        assert connected.wait(20), "Docker's event stream did not come up"
        yield
        self.wired.docker.close()
        thread.join(20)

    def story(self) -> str:
        """What happened, for a failed assertion."""
        lines = [*self.said[-30:], *(f"{e.kind} {e.model_dump(include={'name', 'container'})}" for e in self.effects[-20:])]
        report = self.wired.cycle.report
        if report is not None:
            lines += [str(found) for found in (*report.instances, *report.conditions)]
        return "\n".join(lines)

    # --- the config

    def app(self, version: str = "1", **given: object) -> dict[str, Any]:
        """The test application as a service. `env` is added to its VERSION."""
        env = {"VERSION": version, **given.pop("env", {})}  # type: ignore[dict-item]
        return {"image": self.images.app, "port": 8080, "health": QUICK, "env": env, "drain": {"timeout": "20s"}, **given}

    def commit(self, services: Mapping[str, Service], message: str = "change", *, cluster: Mapping[str, Any] | None = None) -> str:
        """The project's file with these services. Returns the commit's object id."""
        assert SERVICES.issuperset(services), (
            f"add {services.keys() - SERVICES} to SERVICES, so that no two get the same internal port"
        )
        files = {
            "cluster.yaml": json.dumps({"servers": {self.name: {}}, **(cluster or {})}),
            f"projects/{self.project}/{ENV}.yaml": json.dumps({"project": {"name": self.project, "services": dict(services)}}),
        }
        return self.remote.commit(files, message)

    def deploy(self, services: Mapping[str, Service], message: str = "change", timeout: float = 120.0) -> str:
        """Commit and settle."""
        revision = self.commit(services, message)
        problem = self.settle(timeout).outcome.problem
        assert problem is None, f"{problem}\n" + self.story()
        desired = self.wired.cycle.desired
        assert desired is not None and not desired.invalid, self.story()
        return revision

    def write_secret(self, name: str, value: str) -> Path:
        """Put a secret on the server."""
        path = self.settings.local_dir / self.project / ENV / "secrets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.parents[1] / f"{name}.new"  # a file that is empty for a moment would be a secret of its own
        new.write_text(value)
        new.replace(path)
        return path

    # --- what there is

    def key(self, service: str) -> ServiceKey:
        return ServiceKey(self.project, ENV, service)

    def ours(self) -> dict[str, ByHand]:
        """Every container of this server by its name without the project and environment, stopped ones too."""
        found = self.scope.client.containers.list(
            all=True, filters={"label": f"reconciler.server={self.name}"}, ignore_removed=True
        )
        return {(c.name or "").removeprefix(f"{self.project}_{ENV}_"): c for c in found}

    def ids(self) -> dict[str, str]:
        """Container ids and start times by name: equal means that nothing was restarted."""
        return {name: f"{c.id} {c.attrs['State']['StartedAt']}" for name, c in sorted(self.ours().items())}

    def container(self, name: str) -> ByHand:
        """By its name without project and environment, such as `web_secondary_sidecar`."""
        found: ByHand = self.scope.client.containers.get(f"{self.project}_{ENV}_{name}")
        return found

    def edge(self) -> ByHand:
        found: ByHand = self.scope.client.containers.get(self.settings.edge_name)
        return found

    def host_listener(self) -> ByHand:
        found: ByHand = self.scope.client.containers.get(self.settings.host_name)
        return found

    def cluster(self) -> ClusterState:
        """The decision, as the remote has it."""
        return ClusterState.model_validate(yaml.safe_load(self.remote.show("status/cluster", "cluster.yaml")))

    def report(self) -> Report:
        """This server's report, as the remote has it."""
        return Report.model_validate(yaml.safe_load(self.remote.show(f"status/{self.name}", "report.yaml")))

    def slot(self, service: str) -> str:
        """The slot that is live."""
        state = self.cluster().services[str(self.key(service))]
        (live,) = [backend.slot for backend in state.backends if backend.role == "live"]
        return live

    def conditions(self) -> str:
        """The conditions of the report as one text."""
        return "\n".join(f"{c.type} {c.status} {c.reason} {c.service} {c.message}" for c in self.report().conditions)

    def sidecar_file(self, name: str) -> str:
        """The nginx configuration of a sidecar, as it was written."""
        path = self.settings.state_dir / "nginx" / f"{self.project}_{ENV}_{name}" / "nginx.conf"
        return path.read_text()

    def switches(self) -> int:
        """How many reloads there were so far."""
        return sum(effect.kind == "switch" for effect in self.effects)

    # --- being a client

    def port(self, service: str) -> int:
        """The internal port: on localhost of consumers and of the host."""
        return internal_port(self.project, ENV, service)

    def get(self, path: str = "/", host: str = "shop.example", *, port: int | None = None, timeout: float = 20.0) -> Answer:
        """GET over a connection of its own, from the edge unless told otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.edge_port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Host": host, "Connection": "close"})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode())
        finally:
            connection.close()

    def inside(self, consumer: str, url: str) -> Any:
        """What the application `consumer` gets when it fetches `url` itself."""
        code, output = self.container(consumer).exec_run(
            ["python3", "-c", f"import urllib.request as u; print(u.urlopen({url!r}, timeout=5).read().decode())"]
        )
        text = bytes(output).decode()  # type: ignore[arg-type]
        assert code == 0, text
        return json.loads(text)


def _holds(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except Exception:
        return False


def listening(port: int) -> socket.socket:
    """A stranger on a port of 127.0.0.1."""
    return socket.create_server(("127.0.0.1", port))


def environment(server: Server) -> dict[str, str]:
    """The same server's settings for a child process."""
    settings = server.settings
    names = ("repo", "server", "state_dir", "local_dir", "docker", "nginx_image", "edge_address", "edge_name", "host_name",
             "network_pool", "generation_port", "host_generation_port")  # fmt: skip
    given = {f"RECONCILER_{name.upper()}": str(getattr(settings, name)) for name in names}
    return {**os.environ, **given, "RECONCILER_EDGE_PORTS": str(server.edge_port)}


@pytest.fixture(name="server")
def one_server(scope: Scope, images: Images, git_remote: Remote, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Server]:
    """A whole server, with nothing deployed yet."""
    made = Server(scope, images, git_remote, tmp_path, free_port)
    yield made
    made.close()
