"""What it takes several servers to agree on one rollout through a real Git host that is 300 ms away.

One thread for each server runs the real engine and the real Git adapter, whose processes talk to `git daemon` over TCP. Docker,
nginx and the health probes are stand-ins in memory (`tests/company`), so that fifty servers fit on one machine.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.effects.clock import SystemClock
from reconciler.effects.git import GitRepository
from reconciler.effects.git_settings import GitSettings
from reconciler.engine.cycle import Cycle
from reconciler.engine.daemon import LONGEST_SLEEP, ROUND_SECONDS
from reconciler.engine.jobs import ThreadJobs
from reconciler.engine.loop import Wake
from reconciler.engine.ports import Publication, Published, Snapshot
from reconciler.engine.repository import Repository
from reconciler.model.report import Report
from tests.bench.conftest import Mode
from tests.bench.results import Section
from tests.company.members import Member, config, member, names, settled
from tests.remote import Remote
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(3600)

LATENCY = 0.3
POLL_EVERY = 30.0
TRAILING = 70.0
"""Seconds after the end in which pushes still count: what nobody waits for rests for a minute."""


class Distance:
    """A port in front of another one, whose connections take `LATENCY` to come about. Counts them."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, name="distance", daemon=True).start()

    def close(self) -> None:
        """No more connections."""
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        time.sleep(LATENCY)
        with near, socket.create_connection(("127.0.0.1", self._to)) as far:
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@dataclass(frozen=True)
class Push:
    """One push as the server that made it saw it."""

    at: float
    server: str
    refs: tuple[str, ...]
    rejected: tuple[str, ...]
    lasted: float


@dataclass
class Record:
    """What all servers did."""

    pushes: list[Push] = field(default_factory=list)
    polls: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Recorded(Repository):
    """The real repository, with a note of each push and poll."""

    def __init__(self, git: GitRepository, server: str, record: Record) -> None:
        super().__init__(git, server)
        self._name = server
        self._record = record

    def poll(self, needed: frozenset[str], followed: str | None, decision: str | None = None) -> Snapshot:
        began = time.monotonic()
        snapshot = super().poll(needed, followed, decision)
        self._record.polls.append(time.monotonic() - began)
        return snapshot

    def publish(self, publications: Sequence[Publication], when: int) -> Published:
        began = time.monotonic()
        result = super().publish(publications, when)
        if result.error is not None:
            self._record.failures.append(f"{self._name}: {result.error}")
        refs = tuple(publication.ref for publication in publications)
        self._record.pushes.append(Push(time.monotonic(), self._name, refs, tuple(result.tips), time.monotonic() - began))
        return result


class Server:
    """One server's thread: what `reconcile run` does around the passes."""

    def __init__(self, name: str, url: str, directory: Path, record: Record, first_poll: float) -> None:
        self._wake = Wake()
        self._stop = threading.Event()
        self._jobs = ThreadJobs(self._wake.ring)
        self._first_poll = first_poll
        git = GitRepository(directory / "repo.git", GitSettings(url=url))
        self.member: Member = member(name, Recorded(git, name, record), SystemClock(), self._jobs)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._wake.ring()
        self._thread.join(30)
        eventually(lambda: not self._jobs.working(""), 60, "its git to end")

    def _run(self) -> None:
        cycle: Cycle = self.member.cycle
        cycle.recall()
        polled = time.monotonic()
        due = polled + self._first_poll
        cycle.poll()
        while not self._stop.is_set():
            outcome = cycle.step()
            now = time.monotonic()
            if outcome.poll_in is not None:
                due = min(due, polled + outcome.poll_in)
            if now >= due:
                polled, due = now, now + POLL_EVERY
                cycle.poll()
            sleep = ROUND_SECONDS if outcome.busy else min(outcome.next_in or LONGEST_SLEEP, LONGEST_SLEEP)
            self._wake.wait(max(ROUND_SECONDS, min(sleep, due - time.monotonic())))


@pytest.fixture
def distant(tmp_path: Path, git_remote: Remote, free_port: Callable[[], int]) -> Iterator[tuple[str, Distance]]:
    """The remote's URL over `git daemon`, and the distance in front of it."""
    port = free_port()
    git_remote.git("config", "receive.autogc", "false")
    git_remote.git("config", "gc.auto", "0")
    command = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--export-all", "--enable=receive-pack",
               "--max-connections=0", f"--base-path={git_remote.path.parent}"]  # fmt: skip
    daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    distance = Distance(port)
    try:
        eventually(lambda: _answers(port), 20, "git daemon to listen")
        yield f"git://127.0.0.1:{distance.port}/{git_remote.path.name}", distance
    finally:
        distance.close()
        daemon.terminate()
        daemon.wait(20)
        shutil.rmtree(tmp_path, ignore_errors=True)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Agreed:
    """One rollout. Times in seconds from the commit."""

    servers: int
    services: int
    pushes: Sequence[Push]
    fetches: int
    live: float
    done: float
    load: float

    @property
    def bound(self) -> int:
        return 2 * self.servers + 3


def test_servers_agree_on_a_rollout_with_two_pushes_each_and_three(
    distant: tuple[str, Distance], git_remote: Remote, tmp_path: Path, mode: Mode, report: Callable[[Section], None]
) -> None:
    section = Section(
        "Agreeing through Git",
        f"""One rollout (a toggle on every server), from the commit to the decision that it is done. Real engine and Git adapter,
        one thread for each server; `git daemon` behind a port that takes {LATENCY * 1000:.0f} ms to connect. Docker, nginx and
        probes are stand-ins (healthy after 2 s). Idle servers poll every {POLL_EVERY:.0f} s, spread evenly. Pushes count until
        nobody has pushed for {TRAILING:.0f} s. Asserted: at most 2 pushes for each server and 3 more, those that came too late
        among them.""",
    )
    found = []
    for count, services in ((2, 1), (3, 1), (10, 1), (10, 4), (50, 1)):
        if mode.quick and (count, services) not in ((3, 1), (10, 1)):
            continue
        for branch in [name for name in git_remote.branches() if name.startswith("status/")]:
            git_remote.move(branch, None)
        found.append(agreed(distant, git_remote, tmp_path / f"{count}-{services}", count, services))
        print(
            found[-1].servers,
            Counter("+".join("decision" if r == "cluster" else "report" for r in p.refs) for p in found[-1].pushes),
        )
    rows = [row(each) for each in found]
    section.table(
        ["servers", "services", "pushes", "at most", "reports alone", "decisions alone", "both in one", "rejected", "fetches",
         "push took, s", "commit to live everywhere, s", "to done, s", "load"],
        rows,
    )  # fmt: skip
    report(section)
    for each in found:
        counted = len(each.pushes)  # those that came too late cost the Git host as much
        assert counted <= each.bound, f"{each.servers} servers: {counted} pushes, {each.bound} allowed"


def agreed(distant: tuple[str, Distance], remote: Remote, directory: Path, count: int, services: int) -> Agreed:
    url, distance = distant
    servers = names(count)
    record = Record()
    first = remote.commit(config(servers, versions(services, "1")), "First")
    running = [Server(name, url, directory / name, record, POLL_EVERY * place / count) for place, name in enumerate(servers)]
    try:
        for each in running:
            each.start()
        eventually(lambda: done(running, first), 600, lambda: f"the first deploy: {story(remote, record)}")
        quiet(record, TRAILING)
        before, connections = len(record.pushes), distance.connections
        load = os.getloadavg()[0]
        began = time.monotonic()
        second = remote.commit(config(servers, versions(services, "2")), "Bump")
        eventually(lambda: live(running, second), 600, lambda: f"version 2: {story(remote, record)}")
        lived = time.monotonic() - began
        eventually(lambda: done(running, second), 600, lambda: f"the end: {story(remote, record)}")
        ended = time.monotonic() - began
        fetches = distance.connections - connections - (len(record.pushes) - before)
        quiet(record, TRAILING)
    finally:
        for each in running:
            each.end()
    assert not record.failures, record.failures
    return Agreed(count, services, record.pushes[before:], fetches, lived, ended, load)


def versions(services: int, version: str) -> Mapping[str, str]:
    return {f"web{number}": version for number in range(services)}


def live(running: Sequence[Server], sha: str) -> bool:
    """Whether every server has seen the switch and serves it."""
    for server in running:
        cluster, report = server.member.cycle.cluster, server.member.cycle.report
        if cluster is None or report is None or report.serving is None or cluster.config != sha:
            return False
        rollouts = [state.rollout for state in cluster.services.values()]
        if any(r is None or r.phase not in ("switching", "done") for r in rollouts):
            return False
        if report.serving.generation < max(r.switched_at or 0 for r in rollouts if r is not None):
            return False
    return True


def done(running: Sequence[Server], sha: str) -> bool:
    """Whether somebody's decision that all is done has landed, and everybody serves."""
    servers = [server.member.name for server in running]
    reports: dict[str, Report | None] = {server.member.name: server.member.cycle.report for server in running}
    known = (server.member.cycle.cluster for server in running)
    return any(cluster is not None and settled(cluster, sha, servers, reports) for cluster in known)


def quiet(record: Record, seconds: float) -> None:
    """Until nobody has pushed anything for so long."""
    since = time.monotonic()

    def silent() -> bool:
        last = record.pushes[-1].at if record.pushes else since
        return time.monotonic() - max(last, since) >= seconds

    eventually(silent, 600, "silence")


def row(each: Agreed) -> Sequence[object]:
    kinds = Counter("both" if len(p.refs) == 2 else "decision" if p.refs == ("cluster",) else "report" for p in each.pushes)
    rejected = sum(bool(p.rejected) for p in each.pushes)
    took = statistics.median(p.lasted for p in each.pushes)
    return [each.servers, each.services, f"**{len(each.pushes)}**", each.bound, kinds["report"], kinds["decision"], kinds["both"],
            rejected, each.fetches, f"{took:.1f}", f"{each.live:.0f}", f"{each.done:.0f}", f"{each.load:.1f}"]  # fmt: skip


def story(remote: Remote, record: Record) -> str:
    """What was pushed, for a failed wait."""
    lines = [f"{p.at:.1f} {p.server} {'+'.join(p.refs)}{' REJECTED' if p.rejected else ''}" for p in record.pushes[-60:]]
    return "\n".join([*lines, *(commit.subject for commit in remote.log("status/cluster")[:20]), *record.failures])
