"""A server whose program is killed again and again, while clients of its edge count what they lose."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.engine.faults import KILL_AT, RECORD
from tests.integration.program import ROOT, Program
from tests.integration.server import Server
from tests.waiting import eventually

KILLED = -9
PATIENT = {"http": "/up", "interval": "200ms", "timeout": "5s", "retries": 200}
"""A health gate that is no matter of this machine's load."""

SETTLE_SECONDS = 90.0
LOAD_SECONDS = 900.0
PAUSE = 0.04
"""Between two requests of each of the two clients of a load: about 50 requests a second in all."""


_ID = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True)
class Step:
    """A line of the record. `what` is without what differs from run to run; `point` asks for the first such step of any run."""

    when: str
    number: int
    what: str
    point: str

    @classmethod
    def parse(cls, line: str, server: str) -> Step:
        when, number, said = line.split(" ", 2)
        what = _ID.sub("ID", said.replace(server, "S")).replace("_secondary", "")
        pattern = re.escape(_ID.sub("ID", said).replace("_secondary", "")).replace("ID", _ID.pattern)
        # Each toggle goes to the other slot: its name stands behind the service's, which has no underscore.
        pattern = re.sub(r"(_prod_[a-z0-9]+)", r"\1(_secondary)?", pattern)
        return cls(when, int(number), what, f"{when}:~{pattern}")

    @property
    def about(self) -> str:
        return f"{self.when} {self.what}"


@dataclass
class Patient:
    """One server with services behind its edge; each update is one toggle of each of them."""

    server: Server
    services: tuple[str, ...] = ("web",)
    version: int = 0
    secrets: tuple[str, ...] = ()

    def commit(self) -> str:
        """The next version. Returns it."""
        self.version += 1
        version = str(self.version)
        self.server.commit({name: self._service(name, version) for name in self.services}, f"version {version}")
        return version

    def converge(self) -> None:
        """`reconcile --once`, undisturbed."""
        with Program(self.server, "--once", "--verbose") as program:
            code = program.wait(SETTLE_SECONDS)
            assert code == 0, f"--once ended with {code}:\n{program.said[-6000:]}"

    def record(self, kill_at: str | None = None) -> tuple[int, list[Step]]:
        """`reconcile --once` to its end or to its death. Returns the exit code and the steps up to there."""
        file = self.server.directory / "steps"
        file.unlink(missing_ok=True)
        asked = {RECORD: str(file)} | ({KILL_AT: kill_at} if kill_at else {})
        with Program(self.server, "--once", "--verbose", env=asked) as program:
            code = program.wait(SETTLE_SECONDS)
            assert code in (0, KILLED), f"--once ended with {code}:\n{program.said[-6000:]}"
        return code, [Step.parse(line, self.server.name) for line in file.read_text().splitlines()]

    def check_two_slots_at_most(self) -> None:
        """I2, at this moment, half-made containers included."""
        for service in self.services:
            key = str(self.server.key(service))
            found = [c for c in self.server.ours().values() if c.labels.get("reconciler.service") == key]
            slots = sorted(c.name or "" for c in found if c.labels["reconciler.role"] == "application")
            assert len(slots) <= 2, slots

    def check_converged(self, version: str) -> None:
        """What is live is what was asked for, it is what runs, and nothing else is left."""
        server = self.server
        cluster, report, found = server.cluster(), server.report(), server.ours()
        live = {}
        for service in self.services:
            assert server.get(host=f"{service}.example").json["version"] == version
            state = cluster.services[str(server.key(service))]
            assert state.rollout is None or state.rollout.phase == "done", state.rollout
            (backend,) = state.backends
            assert backend.role == "live" and state.live is not None and backend.spec == state.live.spec
            name = service if backend.slot == "primary" else f"{service}_secondary"
            live[name] = state.live.spec
            told = [(i.slot, i.phase) for i in report.instances if str(i.service) == str(server.key(service))]
            assert told == [(backend.slot, "live")], told
        nginxes = {server.settings.edge_name, server.settings.host_name}
        if all(str(server.port(service)) in server.conditions() for service in self.services):
            nginxes.remove(server.settings.host_name)  # strangers have these ports of the host: nothing is left to listen on
        sidecars = {f"{name}_sidecar" for name in live}
        assert set(found) == {*live, *sidecars, *nginxes}, sorted(found)
        assert {container.status for container in found.values()} == {"running"}
        assert {name: found[name].labels["reconciler.spec"] for name in live} == live
        directories = {path.name for path in (server.settings.state_dir / "nginx").iterdir()}
        assert directories == {found[name].name for name in {*sidecars, *nginxes}}
        assert report.seen is not None and (report.seen.epoch, report.seen.generation) == (cluster.epoch, cluster.generation)
        assert report.serving is not None and report.serving.generation == cluster.generation

    def is_converged(self, version: str) -> bool:
        """For waiting; raises what is not so yet."""
        self.check_converged(version)
        return True

    def volumes(self) -> set[str]:
        volumes = self.server.scope.client.volumes.list(filters={"name": self.server.project})
        return {volume.name for volume in volumes}

    def _service(self, name: str, version: str) -> Mapping[str, Any]:
        data = {f"{name}-data": {"target": "/data", "shared": True}}
        public = {"hosts": [f"{name}.example"]}
        return self.server.app(version, public=public, volumes=data, health=PATIENT, secrets=list(self.secrets))


@contextmanager
def clients(server: Server, host: str = "web.example", wanted: int = 200) -> Iterator[Callable[[], Mapping[str, Any]]]:
    """Keep-alive GETs and POSTs against the edge in a process of its own. Fails at the end unless every one was answered with 200.

    Yields a function that gives the counters of at most half a second ago.
    """
    plan = {
        "url": f"http://127.0.0.1:{server.edge_port}",
        "host": host,
        "seconds": LOAD_SECONDS,
        "posts": 1,
        "gets": 1,
        "pause": PAUSE,
    }
    output = server.directory / f"load-{host}"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools/load.py"), json.dumps(plan)], stdin=subprocess.PIPE, stdout=file, stderr=file
        )

    def counters() -> Mapping[str, Any]:
        return _last(output)

    try:
        eventually(lambda: counters()["sent"] > 0, 60, lambda: f"the load to begin; it said {output.read_text()}")
        yield counters
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0, output.read_text()
        last = counters()
        assert last["done"] and last["sent"] >= wanted, last
        assert last["failed"] == 0, last
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _last(output: Path) -> Mapping[str, Any]:
    lines = [line for line in output.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    found: Mapping[str, Any] = json.loads(lines[-1])
    return found
