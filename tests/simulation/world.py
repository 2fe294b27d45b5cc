"""Servers, commits, refs and faults in virtual time, driven by one seed. Invariants are checked after each step."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from reconciler.model.action import Action, RemoveInstance, StartContainer, StartInstance
from reconciler.model.cluster import ClusterState, Decider
from reconciler.model.desired import Desired, Rolling
from reconciler.model.identity import InstanceKey
from reconciler.model.observed import Elapsed
from reconciler.model.report import Report
from reconciler.model.routes import NginxConfig
from reconciler.plan import facts
from reconciler.plan.decide import Decision, decide
from reconciler.plan.nginxes import Intended, configs
from reconciler.plan.planner import plan
from reconciler.plan.rebuild import unsettled
from reconciler.plan.reporting import report as make_report
from reconciler.ports import SECONDARY_OFFSET
from tests.simulation.invariants import Invariants
from tests.simulation.machine import Machine, Refs, fingerprint, make
from tests.simulation.versions import Commits, Service, index_of, revision

ALL = 99
UPDATES = ("update",) * 5
ROLLING = (
    None,
    Rolling(soak=20.0),
    Rolling(soak=5.0, on_failure="abort_local"),
    Rolling(max_parallel=2, max_unavailable=1, soak=0.0),
)
QUIET_ROUNDS = 5
QUIET_SECONDS = 150.0


@dataclass
class Rules:
    """The decision code under test; a mutation replaces one of these."""

    decide: Callable[..., Decision] = decide
    plan: Callable[..., tuple[Action, ...]] = plan
    report: Callable[..., Report] = make_report


@dataclass
class World:
    """Everything that is simulated."""

    seed: int
    size: int = 1
    rules: Rules = field(default_factory=Rules)
    now: float = 1000.0

    def __post_init__(self) -> None:
        """Servers a, b, c with a first commit."""
        self.rng = random.Random(self.seed)
        self.names = tuple("abc"[: self.size])
        self.machines = {name: make(name) for name in self.names}
        self.refs = Refs()
        self.commits = Commits(self.names)
        self.places: dict[tuple[str, str], tuple[str, InstanceKey]] = {}
        self.epochs = 0
        self.faults = True
        self.log: list[str] = []
        self.invariants = Invariants(self)
        self.commits.commit({service.name: service for service in self._first()})

    # Scenario

    def run(self, steps: int) -> None:
        """Faults and commits for `steps` steps, then peace, then convergence."""
        for _ in range(steps):
            self.now += self.rng.choice((0.5, 1.0, 2.0, 5.0, 12.0))
            if self.rng.random() < 0.12:
                self._commit()
            if self.rng.random() < 0.12:
                self._fault()
            machine = self.machines[self.rng.choice(self.names)]
            if machine.frozen_until <= self.now:
                self.step(machine)
            self.invariants.check()
        self._peace()
        self.converge()
        self.invariants.converged()

    def converge(self) -> None:
        """Rounds without faults until nothing moves for longer than any back-off."""
        quiet = 0
        for _ in range(160):
            self.now += 3.0 if quiet == 0 else QUIET_SECONDS
            moved = False
            for name in self.rng.sample(self.names, len(self.names)):
                moved |= self.step(self.machines[name])
                self.invariants.check()
            quiet = 0 if moved else quiet + 1
            if quiet >= QUIET_ROUNDS:
                return
        self.fail("I6", "it does not come to rest; " + "; ".join(self.log[-6:]))

    def fail(self, invariant: str, message: str) -> None:
        """Raise with what is needed to replay."""
        tail = "\n  ".join(self.log[-25:])
        raise AssertionError(f"{invariant}: {message} (seed {self.seed}, {self.size} servers, at {self.now:.1f})\n  {tail}")

    # One server's pass

    def step(self, machine: Machine) -> bool:
        """One pass; True if anything changed or was done."""
        self._fetch(machine)
        before = (machine.report, machine.cluster, self.refs.version)
        commits, cluster = self.commits, machine.cluster
        desired = commits.desired(machine.head)
        observed = machine.observe(desired, cluster, self.now, self._connections(machine))
        reports = dict(machine.known.reports)
        elapsed = self._elapsed(machine, facts.current(cluster, reports, observed))
        machine.report = self.rules.report(
            desired,
            cluster,
            observed,
            machine.site,
            self._intended(desired, cluster, machine, observed),
            machine.report,
            identity=machine.name,
            elapsed=elapsed,
            program="1",
        )
        reports[machine.name] = machine.report
        self._push_report(machine)
        self._decide(machine, desired, reports, elapsed)
        if machine.cluster is None:
            return before != (machine.report, machine.cluster, self.refs.version)
        intended = self._intended(desired, machine.cluster, machine, observed)
        actions = self.rules.plan(desired, machine.cluster, observed, elapsed, machine.site, intended)
        self._apply(machine, actions)
        return bool(actions) or before != (machine.report, machine.cluster, self.refs.version)

    def _fetch(self, machine: Machine) -> None:
        if self.faults and self.rng.random() < 0.15:
            return
        machine.known = Refs(self.refs.cluster, self.refs.version, dict(self.refs.reports))
        machine.head = self.commits.head
        if not machine.unpushed:
            machine.cluster = self.refs.cluster

    def _push_report(self, machine: Machine) -> None:
        if self.faults and self.rng.random() < 0.15:
            return
        assert machine.report is not None
        self.refs.reports[machine.name] = machine.report

    def _decide(self, machine: Machine, desired: Desired, reports: dict[str, Report], elapsed: Elapsed) -> None:
        cluster = machine.cluster
        if cluster is not None and (machine.name not in cluster.members or index_of(cluster.config) > machine.head):
            return
        if cluster is None and unsettled(reports):
            return
        decision = self.rules.decide(
            desired,
            cluster,
            reports,
            elapsed,
            decider=Decider(server=machine.name, program="1"),
            fresh_epoch=f"epoch{self.epochs}",
        )
        if not decision.reasons:
            if machine.unpushed:
                self._push_cluster(machine, cluster)
            return
        self.invariants.decision(cluster, decision)
        if cluster is None:
            self.epochs += 1
        self.log.append(f"{self.now:.1f} {machine.name} g{decision.cluster.generation}: " + " | ".join(decision.reasons))
        landed = self._push_cluster(machine, decision.cluster)
        sole = cluster is not None and cluster.members == decision.cluster.members == (machine.name,)
        if landed or sole:
            machine.cluster = decision.cluster
            machine.unpushed = not landed

    def _push_cluster(self, machine: Machine, cluster: ClusterState | None) -> bool:
        if self.refs.version != machine.known.version:
            return False
        if self.faults and self.rng.random() < 0.1:
            return False
        self.refs.cluster, self.refs.version = cluster, self.refs.version + 1
        machine.known.version = self.refs.version
        machine.unpushed = False
        # The answer can be lost although the push landed; a fetch tells.
        return not (self.faults and self.rng.random() < 0.05 and self.size > 1)

    def _elapsed(self, machine: Machine, current: frozenset[str]) -> Elapsed:
        held = current | machine.marks
        machine.times = {fact: since for fact, since in machine.times.items() if fact in held}
        for fact in held:
            machine.times.setdefault(fact, self.now)
        return Elapsed(seconds={fact: self.now - since for fact, since in machine.times.items()})

    def _intended(self, desired: Desired, cluster: ClusterState | None, machine: Machine, observed: object) -> dict[str, Intended]:
        if cluster is None:
            return {}
        found = configs(desired, cluster, observed, machine.site)  # type: ignore[arg-type]
        return {name: Intended(config, fingerprint(config)) for name, config in found.items()}

    def _apply(self, machine: Machine, actions: tuple[Action, ...]) -> None:
        stop = self.rng.randint(0, len(actions)) if self.faults and self.rng.random() < 0.5 else len(actions)
        for number, action in enumerate(actions):
            if number == stop and self.rng.random() < 0.7:
                self._crash(machine, action)
                return
            if number > stop:
                return
            self._carry_out(machine, action, ALL)

    def _crash(self, machine: Machine, action: Action) -> None:
        if self.rng.random() < 0.5:
            self._carry_out(machine, action, self.rng.randint(0, 2))
        machine.times, machine.probes = {}, {}

    def _carry_out(self, machine: Machine, action: Action, steps: int) -> None:
        self.log.append(f"{self.now:.1f} {machine.name} {action.kind}: {_words(action)}" + (" (crash)" if steps != ALL else ""))
        self.invariants.before(machine, action)
        lasts = self.rng.choice((0.0, 0.0, 3.0, 15.0, 60.0)) if self.faults else self.rng.choice((0.0, 0.0, 5.0))
        succeeds = not (self.faults and self.rng.random() < 0.2)
        if isinstance(action, StartInstance):
            self._register(machine, action)
        heals = isinstance(action, StartInstance | StartContainer) and self.invariants.heals(machine, action)
        try:
            machine.apply(action, self.now, steps, lasts, succeeds)
        except (AssertionError, KeyError) as error:
            if not isinstance(action, StartInstance | StartContainer | RemoveInstance) or not self.faults:
                self.fail("Docker", f"{machine.name} {action.kind} {error}")
        if heals and isinstance(action, StartInstance | StartContainer):
            name = action.instance.name if isinstance(action, StartInstance) else action.name.removesuffix("_sidecar")
            machine.heals.setdefault(name, []).append(self.now)
        self.invariants.after(machine)

    def _register(self, machine: Machine, action: StartInstance) -> None:
        """Who is reached at which name, address and port from now on."""
        instance, labels = action.instance, action.application.labels
        self.places[machine.name, instance.name] = (machine.name, instance)
        for slot, index in (("primary", 0), ("secondary", 1)):
            at = instance if instance.slot == slot else instance.other
            if labels.addresses is not None:
                self.places[machine.name, labels.addresses[index]] = (machine.name, at)
            if labels.ports is not None:
                assert labels.ports[1] == labels.ports[0] + SECONDARY_OFFSET
                self.places["*", f"{machine.site.address}:{labels.ports[index]}"] = (machine.name, at)

    def resolve(self, server: str, peer: str) -> tuple[str, InstanceKey] | None:
        """Whom a peer's address leads to from a server."""
        host = peer.rpartition(":")[0]
        return self.places.get(("*", peer)) or self.places.get((server, host))

    def _connections(self, machine: Machine) -> dict[str, int]:
        """Established connections to each application of the server: those of pinned old workers anywhere."""
        counted = {b.id: 0 for b in machine.boxes.values() if b.plan.labels.role == "application" and b.status == "running"}
        for other in self.machines.values():
            for box in other.boxes.values():
                for worker in box.workers:
                    if worker.pinned and worker.ends > self.now and box.status == "running":
                        for found in self.live_peers(other.name, worker.config):
                            target = machine.find(found[1]) if found[0] == machine.name else None
                            if target is not None and target.id in counted:
                                counted[target.id] += 1
        return counted

    def live_peers(self, server: str, config: NginxConfig) -> set[tuple[str, InstanceKey]]:
        peers = (peer for upstream in config.upstreams for peer in upstream.peers if not peer.backup)
        return {found for peer in peers if (found := self.resolve(server, peer.address)) is not None}

    # Commits and faults

    def _first(self) -> list[Service]:
        web = Service("web", 1, self.names, public=True, rolling=ROLLING[self.seed % len(ROLLING)])
        api = Service("api", 1, self.names[-1:], secrets=True)
        cache = Service("cache", 1, self.names[:1], sidecar=False)
        store = Service("store", 1, self.names[:1], sidecar=False, recreate=True, rollback=self.seed % 2 == 0)
        return [web, api, cache, store][: self.rng.randint(2, 4)]

    def _commit(self) -> None:
        services = self.commits.history[-1]
        kind = self.rng.choice((*UPDATES, "revert", "revert", "remove", "add", "secret", "suspend", "public", "place", "all"))
        name = self.rng.choice(sorted(services)) if services else ""
        self.log.append(f"{self.now:.1f} commit {revision(self.commits.head + 1).short}: {kind} {name}")
        if kind == "secret":
            for machine in self.machines.values():
                machine.locals["api"] = f"secret{self.rng.randint(1, 99)}"
        elif kind == "revert" and self.commits.head > 0:
            self.commits.commit(self.commits.history[-2], allow=("shop",))
        elif kind == "add":
            missing = [s for s in self._all() if s.name not in services]
            if missing:
                fresh = self.rng.choice(missing)
                self.commits.change(fresh.name, self.commits.bump(fresh, "good"))
        elif kind == "all":
            changed = {n: self.commits.bump(s, "good") for n, s in services.items()}
            self.commits.commit(changed)
        elif name:
            self._change(kind, services[name])

    def _change(self, kind: str, service: Service) -> None:
        if kind == "update":
            quality = self.rng.choice(("good", "good", "good", "bad", "unbuildable"))
            self.commits.change(service.name, self.commits.bump(service, quality))
        elif kind == "remove":
            self.commits.change(service.name, None)
        elif kind == "suspend":
            self.commits.change(service.name, replace(service, suspend=not service.suspend))
        elif kind == "public":
            self.commits.change(service.name, replace(service, public=not service.public))
        elif kind == "place" and not service.recreate:
            count = self.rng.randint(1, self.size)
            self.commits.change(service.name, replace(service, servers=tuple(sorted(self.rng.sample(self.names, count)))))

    def _all(self) -> list[Service]:
        return [
            Service("web", 1, self.names, public=True, rolling=ROLLING[self.seed % len(ROLLING)]),
            Service("api", 1, self.names[-1:], secrets=True),
            Service("cache", 1, self.names[:1], sidecar=False),
        ]

    def _fault(self) -> None:
        machine = self.machines[self.rng.choice(self.names)]
        kind = self.rng.choice(("kill", "remove", "pause", "sidecar", "refuse", "freeze", "crash", "edge", "lose"))
        apps = [b for b in machine.boxes.values() if b.instance is not None and b.plan.labels.role == "application"]
        sides = [b for b in machine.boxes.values() if b.plan.labels.role == "sidecar"]
        self.log.append(f"{self.now:.1f} fault {kind} on {machine.name}")
        if kind in ("kill", "remove", "pause") and apps:
            self.invariants.hit(machine, self.rng.choice(apps), kind)
        elif kind == "sidecar" and sides:
            self.invariants.hit(machine, self.rng.choice(sides), self.rng.choice(("kill", "remove", "pause")))
        elif kind == "refuse":
            machine.refuses = not machine.refuses
        elif kind == "freeze" and self.size > 1:
            machine.frozen_until = self.now + self.rng.choice((10.0, 60.0, 200.0))
        elif kind == "crash":
            machine.times, machine.probes = {}, {}
        elif kind == "edge":
            for box in machine.boxes.values():
                if box.plan.labels.role in ("edge", "host"):
                    box.status, box.exit_code, box.workers = "exited", 137, []
                    break
        elif kind == "lose" and self.rng.random() < 0.3:
            self._lose()

    def _lose(self) -> None:
        """The cluster state and every copy of it are lost.

        Among several at a moment when no first deploy is under way: what was ready on one may be gone on the other.
        """
        known = self.refs.cluster
        if known is None or any(m.unpushed or self.refs.reports.get(m.name) != m.report for m in self.machines.values()):
            return
        if self.size > 1 and any(s.live is None for s in known.services.values()):
            return
        self.refs.cluster, self.refs.version = None, self.refs.version + 1
        for machine in self.machines.values():
            machine.cluster = None

    def _peace(self) -> None:
        self.faults = False
        self.log.append(f"{self.now:.1f} peace")
        for machine in self.machines.values():
            machine.refuses, machine.frozen_until = False, 0.0


def _words(action: Action) -> str:
    name = getattr(action, "name", None) or str(getattr(action, "instance", "")) or getattr(action, "reference", "")
    return f"{name} ({action.cause})"
