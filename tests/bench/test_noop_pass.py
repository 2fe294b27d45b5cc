"""What a pass costs that finds nothing to do."""

from __future__ import annotations

import contextlib
import cProfile
import io
import json
import os
import pstats
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.effects.clock import SystemClock
from reconciler.effects.docker import Docker
from reconciler.effects.git import GitRepository
from reconciler.effects.journal import Journal
from reconciler.effects.probes import Target
from reconciler.effects.pulses import Pulses
from reconciler.effects.secrets import SecretsDirectory, machine_key
from reconciler.engine.cycle import Cycle
from reconciler.engine.jobs import ThreadJobs
from reconciler.engine.loop import Wake, until_settled
from reconciler.engine.repository import Repository
from reconciler.engine.settings import Settings, read_settings
from reconciler.engine.wiring import git_settings, site, wire
from reconciler.engine.world import Identity, Options, World
from reconciler.model.effect import SwitchTarget
from reconciler.model.observed import Gate, NginxState
from reconciler.model.policy import Policy
from reconciler.model.switched import Switched
from tests.bench.conftest import Mode
from tests.bench.results import Section
from tests.bench.server import ENV, ROOT, Server
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

PASSES = 5 if os.environ.get("BENCH") == "quick" else 20
PER_PROJECT = 5
"""Services in a project: all but one have a sidecar, so 9 containers."""


@dataclass
class StandInNginx:
    """nginxes that load what they are given: those of the stand-in's containers, which do not exist."""

    loaded: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> None:
        marker = 'return 200 "'
        self.loaded[name] = text[text.index(marker) + len(marker) :].split('"', 1)[0]

    def forget(self, name: str) -> None:
        self.loaded.pop(name, None)

    def read(self, name: str) -> str | None:
        return None

    def state(self, name: str, pid: int, port: int) -> NginxState:
        return NginxState(name=name, loaded=self.loaded.get(name))

    def complaint(self, name: str) -> str | None:
        return None

    def version(self, name: str) -> tuple[int, int, int]:
        return (1, 31, 0)

    def switch(self, targets: Sequence[tuple[SwitchTarget, int]]) -> Sequence[Switched]:
        found = []
        for target, _ in targets:
            self.write(target.name, target.text)
            state = NginxState(name=target.name, loaded=target.fingerprint)
            found.append(Switched(name=target.name, state=state, loaded=True, verified_ms=100.0))
        return found

    def connections(self, pid: int, port: int) -> int:
        return 0


@dataclass
class StandInProber:
    """Everything is healthy at once."""

    watched: Mapping[str, Target] = field(default_factory=dict)

    def watch(self, targets: Mapping[str, Target]) -> None:
        self.watched = targets

    def gates(self) -> Mapping[str, Gate]:
        return {identity: Gate(state="passed", after=0.1, successes=2) for identity in self.watched}


@dataclass
class Subject:
    """One cycle to be measured."""

    cycle: Cycle
    jobs: ThreadJobs
    docker: Docker
    wake: Wake
    effects: list[str]
    remote: Any

    def polled(self) -> None:
        """A poll, to its end; the next pass takes its result."""
        assert self.cycle.poll()
        eventually(lambda: not self.jobs.working("poll"), 60, "the poll")


@dataclass(frozen=True)
class Cost:
    """Means over passes, in ms; `polled` ones fetch before, git's own CPU included."""

    containers: int
    cpu_ms: float
    wall_ms: float
    polled_ms: float
    calls: str
    fetches: float
    profile: str


def test_a_pass_without_work_costs_one_list_call_and_no_write(
    server: Server, mode: Mode, tmp_path: Path, report: Callable[[Section], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I10: 1 list call, 1 fetch per poll, 0 pushes, 0 reloads, 0 Docker writes."""
    section = Section(
        "No-op pass",
        f"""Means of {PASSES} passes in this process, after everything has settled. *real*: containers on the Engine. *recorded*:
        the real adapter talks over a Unix socket to a stand-in that answers list and inspect as an Engine would; nginx and
        the prober are stand-ins then. *CPU*: of the pass's own process. *pass with a poll*: one fetch of a local bare
        repository and the pass after it, git's CPU included. Docker calls, pushes, reloads and writes are asserted.""",
    )
    counter = GitCounter(tmp_path / "git-calls", tmp_path / "shim")
    monkeypatch.setenv("PATH", counter.path)
    rows: list[list[object]] = []
    profile = ""
    for kind, projects in (("real", 1), ("real", 3), ("recorded", 1), ("recorded", 11), ("recorded", 33)):
        if mode.quick and (kind, projects) == ("real", 3):
            continue
        directory = tmp_path / f"{kind}-{projects}"
        directory.mkdir()
        with contextlib.ExitStack() as stack:
            subject = stack.enter_context((real if kind == "real" else recorded)(server, directory, projects))
            cost = measured(subject, counter, shared=kind == "real")
        rows.append(
            [kind, cost.containers, f"{cost.cpu_ms:.1f}", f"{cost.wall_ms:.1f}", f"{cost.polled_ms:.0f}", cost.calls,
             f"{cost.fetches:.0f} fetch", 0, 0, 0]
        )  # fmt: skip
        profile = cost.profile
    section.table(
        ["containers", "number", "CPU of a pass, ms", "wall, ms", "CPU of a pass with a poll, ms", "Docker calls per pass",
         "Git per poll", "pushes", "reloads", "Docker writes"],
        rows,
    )  # fmt: skip
    section.say("Where the time of a pass goes with the largest one (own time, share of the pass):")
    section.say(profile)
    report(section)


def services(server: Server) -> dict[str, dict[str, object]]:
    """One project's services: each but the first needs the one before, and so has a sidecar."""
    made: dict[str, dict[str, object]] = {}
    for number in range(PER_PROJECT):
        needs = {"backend": f"s{number - 1}"} if number else {}
        public = {"public": {"hosts": ["shop.example"], "path": "/"}} if number == PER_PROJECT - 1 else {}
        env = {"LEVEL": "info", "WORKERS": "2"}
        made[f"s{number}"] = server.app("1", needs=needs, env=env, **public)
    return made


def commit(server: Server, projects: int) -> None:
    files: dict[str, str | bytes | None] = {"cluster.yaml": yaml.safe_dump({"servers": {server.name: {}}})}
    for number in range(projects):
        name = server.name if number == 0 else f"{server.name}-{number}"
        given = services(server)
        given[f"s{PER_PROJECT - 1}"]["public"] = {"hosts": [f"shop{number}.example"]}
        files[f"projects/{name}/{ENV}.yaml"] = yaml.safe_dump(
            {"project": {"name": name, "services": json.loads(json.dumps(given))}}
        )
    server.remote.commit(files, f"{projects} projects")


@contextlib.contextmanager
def real(server: Server, directory: Path, projects: int) -> Iterator[Subject]:
    """The program as it is, on the Engine."""
    commit(server, projects)
    settings = read_settings(server.settings, {}, {"state_dir": server.state})
    wake = Wake()
    effects: list[str] = []
    wired = wire(settings, wake.ring, lambda line: None, lambda when, effect: effects.append(effect.kind))
    try:
        yield settled(Subject(wired.cycle, wired.jobs, wired.docker, wake, effects, server.remote))
    finally:
        wired.close()


@contextlib.contextmanager
def recorded(server: Server, directory: Path, projects: int) -> Iterator[Subject]:
    """The program with the stand-ins. Status goes to branches of the same remote, under another server's name."""
    socket = directory / "docker.sock"
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.docker_standin", str(socket)], cwd=ROOT)
    docker = None
    try:
        eventually(socket.exists, 20)
        commit(server, projects)
        for branch in (f"status/{server.name}", "status/cluster"):
            server.remote.move(branch, None)
        given: Mapping[str, Any] = {"state_dir": directory / "state", "docker": f"unix://{socket}"}
        settings: Settings = read_settings(server.settings, {}, given)
        wake = Wake()
        effects: list[str] = []
        docker = Docker(settings.docker, server.name)
        jobs = ThreadJobs(wake.ring)
        journal = Journal(settings.state_dir)
        repository = Repository(GitRepository(settings.state_dir / "repo.git", git_settings(settings)), server.name)
        secrets = SecretsDirectory(settings.local_dir, machine_key(settings.state_dir / "secrets.key"))
        world = World(docker, StandInNginx(), StandInProber(), Pulses(wake.ring), secrets, journal, SystemClock(), repository, jobs)
        options = Options(
            identity=Identity(own="0123456789abcdef", copied_from=None),
            program="0.1.0",
            policy=Policy(),
            epoch=lambda: "e1",
            pushes_per_minute=60,
            watch=lambda when, effect: effects.append(effect.kind),
        )
        yield settled(Subject(Cycle(world, site(settings), options), jobs, docker, wake, effects, server.remote))
    finally:
        if docker is not None:
            docker.close()
        process.terminate()
        process.wait()


def settled(subject: Subject) -> Subject:
    """Everything deployed, Docker's events followed as the daemon does, and a few passes more, so that nothing is left to ask."""
    outcome = until_settled(subject.cycle, subject.jobs, subject.wake, timeout=600, progress=lambda outcome: None)
    assert not outcome.timed_out and outcome.outcome.problem is None, outcome
    connected = threading.Event()

    def follow() -> None:
        for event in subject.docker.events():
            if event.kind == "connected":
                connected.set()

    threading.Thread(target=follow, name="events", daemon=True).start()
    assert connected.wait(20)
    for _ in range(3):
        subject.polled()
        subject.cycle.step()
    eventually(lambda: not subject.cycle.publisher.pending and subject.cycle.step().busy is False, 90, "nothing to push")
    return subject


def measured(subject: Subject, counter: GitCounter, shared: bool) -> Cost:
    """The cost of passes that have nothing to do, with what they must not do asserted."""
    branches, writes, effects = subject.remote.branches(), subject.docker.writes, len(subject.effects)
    calls = subject.docker.calls.copy()
    wall, cpu = time.monotonic(), time.process_time()
    for _ in range(PASSES):
        outcome = subject.cycle.step()
        assert not outcome.busy and outcome.problem is None and not outcome.active, outcome
    cpu_ms, wall_ms = (time.process_time() - cpu) * 1000 / PASSES, (time.monotonic() - wall) * 1000 / PASSES
    made = subject.docker.calls - calls
    others = made.pop("networks", 0)  # somebody else's network came or went on a shared Engine: its event asks for a new list
    assert dict(made) == {"list": PASSES} and (shared or not others), (made, others)
    counter.reset()
    cpu = all_cpu()
    for _ in range(PASSES):
        subject.polled()
        subject.cycle.step()
    polled_ms = (all_cpu() - cpu) * 1000 / PASSES
    fetches, pushes = counter.count("fetch"), counter.count("push")
    assert (fetches, pushes) == (PASSES, 0), (fetches, pushes)
    assert subject.remote.branches() == branches and subject.docker.writes == writes and len(subject.effects) == effects
    assert subject.cycle.observed is not None
    containers = len(subject.cycle.observed.containers)
    return Cost(containers, cpu_ms, wall_ms, polled_ms, "1 list", fetches / PASSES, profiled(subject))


def profiled(subject: Subject) -> str:
    """The five functions in which a pass spends most time of their own, and the shares of the parts of a pass."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(PASSES):
        subject.cycle.step()
    profile.disable()
    output = io.StringIO()
    stats = pstats.Stats(profile, stream=output)
    total = stats.total_tt  # type: ignore[attr-defined]
    if path := os.environ.get("BENCH_PROFILE"):
        stats.dump_stats(path)
    entries = stats.stats.items()  # type: ignore[attr-defined]
    own = sorted(((tt, name) for name, (_, _, tt, _, _) in entries), reverse=True)[:5]
    parts = ("_desire", "observe", "_make_report", "decide", "_intended", "plan", "_elapsed")
    shares = {name[2]: ct for name, (_, _, _, ct, _) in entries if name[2] in parts and "/reconciler/" in name[0]}
    lines = [f"- {time_ / total:.0%} `{Path(name[0]).name}:{name[2]}`" for time_, name in own]
    lines.append(
        "- by part: " + ", ".join(f"`{name}` {ct / total:.0%}" for name, ct in sorted(shares.items(), key=lambda i: -i[1]))
    )
    return "\n".join(lines)


@dataclass
class GitCounter:
    """Counts git commands by standing in front of git on the PATH."""

    log: Path
    directory: Path

    @property
    def path(self) -> str:
        """A PATH with the counter in front."""
        self.directory.mkdir(exist_ok=True)
        found = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
        shim = self.directory / "git"
        shim.write_text(f'#!/bin/sh\necho "$1" >> {self.log}\nexec {found} "$@"\n')
        shim.chmod(0o755)
        return f"{self.directory}:{os.environ['PATH']}"

    def reset(self) -> None:
        self.log.write_text("")

    def count(self, command: str) -> int:
        return self.log.read_text().split().count(command)


def all_cpu() -> float:
    """CPU seconds of this process and of its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
