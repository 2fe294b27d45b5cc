"""Several servers with the real engine over stand-ins: in virtual time with a host in memory, for counting what they push."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from reconciler.engine.cycle import Cycle
from reconciler.engine.daemon import LONGEST_SLEEP, ROUND_SECONDS
from reconciler.engine.following import read_cluster
from reconciler.engine.ports import ClockPort, GitPort, JobsPort
from reconciler.engine.reports import read_report
from reconciler.engine.world import Identity, Options, World
from reconciler.model.cluster import ClusterState
from reconciler.model.policy import Policy
from reconciler.model.report import Report
from reconciler.model.site import Site
from tests.company.remote import MemoryGit, MemoryHost, Pushed
from tests.company.standins import MemoryDocker, MemoryJournal, MemoryNginx, NoPulses, NoSecrets, TimedProber
from tests.company.virtual import VirtualJobs, VirtualTime

LATENCY = 0.3
"""Seconds for the way to the Git host, per connection: a fetch or a push needs it about twice, and a push works on top."""
POLL_EVERY = 30.0
HEALTHY_AFTER = 2.0


@dataclass(frozen=True)
class Speed:
    """How fast servers are: the least and most seconds of a poll and of a push, and by how many a pass may come late."""

    polls: tuple[float, float]
    pushes: tuple[float, float]
    late: float = 0.0


USUAL = Speed(polls=(LATENCY * 1.8, LATENCY * 2.4), pushes=(LATENCY * 2.7, LATENCY * 3.9))
BUSY = Speed(polls=(0.7, 3.0), pushes=(1.0, 4.0), late=0.5)
LOADED = Speed(polls=(1.0, 8.0), pushes=(2.0, 10.0), late=2.0)
"""Fifty real threads with their git processes on two cores were like this."""


def names(count: int) -> tuple[str, ...]:
    """`s01`, `s02`, ..."""
    return tuple(f"s{number:02d}" for number in range(1, count + 1))


def config(servers: Sequence[str], versions: Mapping[str, str], *, on: int | None = None) -> dict[str, str]:
    """The files of a config commit: services by version, each on `on` of the servers (default: all of them)."""
    inventory = {name: {"address": f"10.0.{number // 250}.{number % 250 + 1}"} for number, name in enumerate(servers)}
    services = {
        service: {"image": f"registry.example/{service}:{version}", "port": 8080, "servers_count": on or len(servers)}
        for service, version in versions.items()
    }
    first = next(iter(services), None)
    if first is not None:
        services[first]["public"] = {"hosts": ["shop.example"]}
    project = {"project": {"name": "shop", "services": services}}
    return {"cluster.yaml": json.dumps({"servers": inventory}), "projects/shop/prod.yaml": json.dumps(project)}


@dataclass
class Member:
    """One server."""

    name: str
    cycle: Cycle
    docker: MemoryDocker
    nginx: MemoryNginx
    prober: TimedProber
    said: list[str] = field(default_factory=list)
    journal: MemoryJournal = field(default_factory=MemoryJournal)


def member(
    name: str,
    git: GitPort,
    clock: ClockPort,
    jobs: JobsPort,
    *,
    healthy_after: float = HEALTHY_AFTER,
    program: str = "0.1.0",
    before: Member | None = None,
) -> Member:
    """The real cycle over stand-ins and a given repository. `before`: whose machine it is, with what runs there and its state."""
    docker, nginx, prober = MemoryDocker(), MemoryNginx(), TimedProber(clock.monotonic, healthy_after)
    said: list[str] = []
    journal = MemoryJournal()
    if before is not None:
        docker, nginx, prober, journal = before.docker, before.nginx, before.prober, before.journal
    world = World(docker, nginx, prober, NoPulses(), NoSecrets(), journal, clock, git, jobs)
    epochs = count(1)  # never the same twice, as random ones would be
    options = Options(
        identity=Identity(own=f"machine-{name}"),
        program=program,
        policy=Policy(),
        epoch=lambda: f"epoch-{name}-{program}-{next(epochs)}",
        say=said.append,
    )
    site = Site(server=name, nginx_image="nginx", nginx_root="/nginx")
    return Member(name, Cycle(world, site, options), docker, nginx, prober, said, journal)


class Company:
    """`count` servers in virtual time. `seed` spreads their polls; `slow` are those that are not as fast as the others."""

    def __init__(self, count: int, seed: int = 1, speed: Speed = USUAL, slow: Mapping[str, Speed] | None = None) -> None:
        self.names = names(count)
        self.time = VirtualTime()
        self.host = MemoryHost()
        self.rng = random.Random(seed)
        self.members: dict[str, Member] = {}
        self._loops: dict[str, _Loop] = {}
        self._speed, self._speeds = speed, slow or {}
        for name in self.names:
            self._install(name, "0.1.0")

    def start(self) -> None:
        """All daemons start."""
        for loop in self._loops.values():
            loop.begin()

    def stop(self, name: str) -> None:
        """A daemon ends; its nginx and containers stay."""
        self._loops[name].cycle = None

    def install(self, name: str, program: str) -> None:
        """Another version of the program takes over on a server."""
        self.stop(name)
        self._install(name, program)
        self._loops[name].begin()

    def _install(self, name: str, program: str) -> None:
        fast = self._speeds.get(name, self._speed)
        loop = _Loop(self.time, self.rng.uniform(0.0, POLL_EVERY), partial(self._late, fast))
        jobs = VirtualJobs(self.time, partial(self._lasts, fast), loop.wake)
        git = MemoryGit(self.host, name, self.time.monotonic)
        self.members[name] = member(name, git, self.time, jobs, program=program, before=self.members.get(name))
        self._loops[name] = loop
        loop.cycle = self.members[name].cycle

    def commit(self, versions: Mapping[str, str], subject: str, *, on: int | None = None) -> str:
        """A config commit; each server sees it at its next poll."""
        return self.host.commit(config(self.names, versions, on=on), subject)

    def run(self, until: Callable[[], bool], seconds: float, what: str) -> float:
        """Virtual seconds until the condition held. Fails with the pushes made when it does not come."""
        began = self.time.now
        assert self.time.run(until, seconds), f"{what} did not come within {seconds:.0f} s\n{self.story()}"
        return self.time.now - began

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.time.run(lambda: False, seconds)

    def cluster(self) -> ClusterState | None:
        """The decision on the host."""
        return read_cluster(self.host.text("cluster", "cluster.yaml"))

    def report(self, name: str) -> Report | None:
        """A report on the host."""
        data = self.host.text(name, "report.yaml")
        found = read_report(name, data) if data is not None else None
        return found if isinstance(found, Report) else None

    def done(self, sha: str) -> bool:
        """The decision says that every rollout of this revision has ended, and every member has acknowledged it."""
        cluster = self.cluster()
        return cluster is not None and settled(cluster, sha, self.names, {name: self.report(name) for name in self.names})

    def pushes_since(self, number: int) -> Sequence[Pushed]:
        """The pushes after the first `number`."""
        return self.host.pushes[number:]

    def story(self, since: int = 0) -> str:
        """Every push, for a failed assertion."""
        return story(self.host.pushes[since:])

    def _late(self, speed: Speed) -> float:
        return self.rng.uniform(0.0, speed.late)

    def _lasts(self, speed: Speed, name: str) -> float:
        if name.startswith("poll"):
            return self.rng.uniform(*speed.polls)
        if name.startswith("push"):
            return self.rng.uniform(*speed.pushes)
        return self.rng.uniform(0.1, 0.6)


def settled(cluster: ClusterState, sha: str, servers: Sequence[str], reports: Mapping[str, Report | None]) -> bool:
    """Whether everything of a revision is done and acknowledged by all `servers`."""
    if cluster.config != sha or set(cluster.members) != set(servers):
        return False
    if any(s.rollout is None or s.rollout.phase != "done" for s in cluster.services.values()):
        return False
    if any(b.role != "live" for s in cluster.services.values() for b in s.backends):
        return False
    switched = max((s.rollout.switched_at or 0 for s in cluster.services.values() if s.rollout is not None), default=0)
    found = (report.serving if report is not None else None for report in reports.values())
    return all(serving is not None and serving.epoch == cluster.epoch and serving.generation >= switched for serving in found)


def counted(pushes: Sequence[Pushed]) -> Counter[str]:
    """Pushes by what they carried: report, decision, both; rejected: a decision that came too late."""
    found: Counter[str] = Counter()
    for push in pushes:
        kinds = {"decision" if ref == "cluster" else "report" for ref in push.asked}
        found["both" if len(kinds) == 2 else kinds.pop()] += 1
        found["rejected"] += push.rejected
    return found


def story(pushes: Sequence[Pushed]) -> str:
    """One line for each."""
    lines = [
        f"{push.at:9.1f} {push.server} {'REJECTED ' if push.rejected else ''}{'+'.join(push.asked)}: {' | '.join(push.subjects)}"
        for push in pushes
    ]
    return "\n".join(lines)


class _Loop:
    """What `reconcile run` does around the passes, as events."""

    def __init__(self, time: VirtualTime, first_poll: float, late: Callable[[], float]) -> None:
        self.cycle: Cycle | None = None
        self._late = late
        self._time = time
        self._first_poll = first_poll
        self._planned = 0
        self._polled_at = time.now
        self._poll = True
        self._woken = False

    def begin(self) -> None:
        assert self.cycle is not None
        self.cycle.recall()
        self._time.after(self._first_poll, self._tick)
        self._plan(0.0)

    def wake(self) -> None:
        """A pass is worth while now."""
        self._plan(0.0)

    def _tick(self) -> None:
        self._poll = True
        self._time.after(POLL_EVERY, self._tick)
        self._plan(0.0)

    def _plan(self, seconds: float) -> None:
        self._planned += 1
        number = self._planned
        self._time.after(seconds + self._late(), lambda: self._pass(number))

    def _pass(self, number: int) -> None:
        if number != self._planned or self.cycle is None:
            return
        if self._poll:
            self._poll = False
            self._polled_at = self._time.now
            self.cycle.poll()
        outcome = self.cycle.step()
        sleep = ROUND_SECONDS if outcome.busy else min(outcome.next_in or LONGEST_SLEEP, LONGEST_SLEEP)
        if outcome.poll_in is not None:
            rest = self._polled_at + outcome.poll_in - self._time.now
            sleep = min(sleep, max(rest, ROUND_SECONDS))
            self._poll = self._poll or rest <= 0
        self._plan(max(sleep, ROUND_SECONDS))  # less may be nothing, after rounding
