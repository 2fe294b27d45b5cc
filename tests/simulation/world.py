"""Servers, commits, the remote and faults in virtual time: carries out a scene, event by event, and checks the invariants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from reconciler.errors import ReconcilerError, Transient
from reconciler.model import effect as e
from reconciler.model.action import Action
from reconciler.model.cluster import ClusterState
from reconciler.model.effect import Effect
from reconciler.model.identity import InstanceKey
from reconciler.model.site import Site
from tests.simulation.boxes import Box, Boxes
from tests.simulation.carrying import failed
from tests.simulation.daemon import Answer, Daemon, Moment
from tests.simulation.disk import View
from tests.simulation.invariants import Invariants
from tests.simulation.people import commit
from tests.simulation.remote import CLUSTER, Remote, Update
from tests.simulation.rules import Rules
from tests.simulation.trace import Commit, Event, Fault, Pass, Scene
from tests.simulation.trouble import strike
from tests.simulation.versions import Commits, Tree, address

QUIET = (20.0, 60.0, 150.0, 400.0)
ROUNDS = 250


class Broken(AssertionError):
    """An invariant does not hold. `invariant` is its name; `log` what happened until then."""

    def __init__(self, invariant: str, message: str, log: tuple[str, ...]) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant
        self.log = log


@dataclass
class World:
    """Everything that is simulated."""

    scene: Scene
    rules: Rules = field(default_factory=Rules)
    now: float = 1000.0

    def __post_init__(self) -> None:
        """The servers, with the first commit."""
        self.remote = Remote(compares=self.rules.compares)
        scene = self.scene
        self.commits = Commits(publish=None if scene.modes else len(scene.machines) > 1)
        servers = {m.name: (m.zone, "active") for m in scene.machines if m.name in (scene.founders or scene.names)}
        self.commits.commit(Tree({s.name: s for s in scene.services}, servers))
        self.daemons: dict[str, Daemon] = {}
        for machine in self.scene.machines:
            self.add(machine.name, machine.name, machine.rate)
        self.epochs = 0
        self.faults = True
        self.log: list[str] = []
        self.effects = 0
        self.due: list[tuple[float, str, str]] = []  # what happens by itself: (when, what, container id)
        self.invariants = Invariants(self)

    def add(self, machine: str, name: str, rate: float) -> None:
        """A machine whose program believes to be the server `name`."""
        site = Site(server=name, nginx_image="nginx", nginx_root="/nginx", address=address(name))
        self.daemons[machine] = Daemon(self, name, machine, machine, rate, Boxes(name, machine), site)

    def members(self) -> tuple[str, ...]:
        """The members by the last decision that anybody knows."""
        cluster = self.latest()
        return cluster.members if cluster is not None else ()

    def latest(self) -> ClusterState | None:
        """The last decision."""
        return self.remote.cluster if CLUSTER in self.remote.refs else self.invariants.last

    # Running

    def run(self) -> None:
        """The events, then peace, then convergence."""
        for event in self.scene.events:
            self.happens(event)
        self.peace()
        self.converge()
        self.invariants.converged()

    def happens(self, event: Event) -> None:
        """One event."""
        self._passes(event.after)
        match event:
            case Pass():
                for daemon in [d for d in self.daemons.values() if d.name == event.server and d.away_until <= self.now]:
                    self.step(daemon, event)
            case Commit():
                self.say(None, commit(self, event))
            case Fault():
                self.say(None, f"{event.kind} on {event.server}: {strike(self, event)}")
        self.invariants.check()

    def peace(self) -> None:
        """No more faults."""
        self.faults = False
        self.say(None, "peace")
        deciders = [
            c.decided_by.program for c in (self.remote.cluster, *(d.cluster for d in self.daemons.values())) if c is not None
        ]
        newest = max(map(int, (*deciders, *(daemon.program for daemon in self.daemons.values()))))
        for machine, daemon in list(self.daemons.items()):
            if machine != daemon.name:
                del self.daemons[machine]  # a person turns it off
        for name, report in self.remote.reports().items():
            if name in self.daemons and report.instance != self.daemons[name].identity:
                del self.remote.refs[name]  # and deletes the branch, as the refusal says
        for daemon in self.daemons.values():
            if daemon.program != str(newest):
                daemon.restart()
                daemon.program = str(newest)
            daemon.away_until = daemon.cut_until = 0.0
            daemon.boxes.heals(self.now)

    def converge(self) -> None:
        """Rounds without faults until nothing moves for longer than any back-off. Raises Broken when it never comes to rest."""
        quiet = 0
        for _ in range(ROUNDS):
            self._passes(3.0 if quiet == 0 else QUIET[quiet - 1])
            moved = False
            for daemon in self.daemons.values():
                moved |= self.step(daemon, Pass(0.0, daemon.name))
                self.invariants.check()
            quiet = 0 if moved else quiet + 1
            if quiet > len(QUIET):
                return
        self.fail("I6", "it does not come to rest; " + "; ".join(self.log[-6:]))

    def step(self, daemon: Daemon, event: Pass) -> bool:
        """One pass, or what is left of one that was frozen."""
        daemon.pulls.arrive(self.now)
        self._background(daemon)
        if daemon.held is not None:
            run, moment, earlier = daemon.held
            daemon.held = None
            self.say(daemon, "goes on where it was frozen")
            event = replace(earlier, at=None)
        else:
            run = daemon.run(event)
            try:
                moment = next(run)
            except StopIteration:
                return False
        number = 0
        while True:
            answer: Answer = None
            if event.at == number:
                if event.cut == "dies":
                    self.say(daemon, f"dies before {_words(moment)}")
                    run.close()
                    daemon.restart()
                    return True
                if event.cut == "freezes":
                    self.say(daemon, f"is frozen before {_words(moment)}")
                    daemon.held = (run, moment, event)
                    daemon.away_until = self.now + event.seconds
                    return True
                answer = self._disturbed(daemon, moment, event)
            elif not isinstance(moment, str):
                answer = self.perform(daemon, moment, event)
            number += 1
            try:
                moment = run.send(answer)
            except StopIteration as stop:
                return bool(stop.value)

    def perform(self, daemon: Daemon, effect: Effect, event: Pass) -> Answer:
        """Carry out one effect, with the invariants before and after."""
        self.invariants.before(daemon, effect)
        self.effects += 1
        try:
            daemon.boxes.perform(effect, self.now, old=event.old, load=event.load)
        except ReconcilerError as error:
            if not self.faults and isinstance(error, Transient):
                self.say(daemon, f"{_words(effect)} failed: {error}")
            return error
        self.invariants.after(daemon, effect)
        return None

    def _disturbed(self, daemon: Daemon, moment: Moment, event: Pass) -> Answer:
        if isinstance(moment, str):
            return None
        self.say(daemon, f"{_words(moment)} {event.cut}")
        if event.cut == "lingers":
            return "lingers"
        if event.cut == "doubtful":
            self.perform(daemon, moment, event)
        return Transient("out of time")

    def _background(self, daemon: Daemon) -> None:
        """Actions that take their time go on."""
        for instance, hand in list(daemon.in_hand.items()):
            if hand.due > self.now:
                continue
            del daemon.in_hand[instance]
            self.say(daemon, f"{hand.action.kind} {instance} goes on")
            for effect in (hand.effect, *hand.rest):
                if isinstance(effect, e.Start):
                    daemon.unseen.add(effect.container)
                answer = self.perform(daemon, effect, Pass(0.0, daemon.name))
                if isinstance(answer, Exception):
                    failed(daemon, hand.action, answer)
                    break

    def _passes(self, seconds: float) -> None:
        self.now += seconds
        self.remote.passes(self.now)
        for daemon in self.daemons.values():
            daemon.boxes.passes(self.now)
        for when, what, identity in [d for d in self.due if d[0] <= self.now]:
            self.due.remove((when, what, identity))
            for daemon in self.daemons.values():
                box = daemon.boxes.boxes.get(identity)
                if box is not None and box.status == "restarting":
                    daemon.boxes.starts(box, self.now)

    # What daemons ask

    def view(self) -> View:
        """What a fetch brings."""
        oid = self.remote.refs.get(CLUSTER)
        oids = {ref: o for ref, o in self.remote.refs.items() if ref != CLUSTER}
        return View(self.commits.head, self.remote.content(CLUSTER), oid, self.remote.reports(), oids)

    def connections(self, daemon: Daemon, instances: frozenset[InstanceKey]) -> dict[str, int]:
        """Established connections to draining applications: those that old nginx workers anywhere still carry."""
        found = {}
        for instance in sorted(instances):
            box = daemon.boxes.find(instance)
            if box is not None and box.status == "running":
                found[box.id] = self.carried(daemon, box)
        return found

    def carried(self, daemon: Daemon, box: Box) -> int:
        """How many old workers carry connections to an application."""
        count = 0
        for other in self.daemons.values():
            for nginx in other.boxes.nginxes():
                for worker in nginx.workers:
                    if worker.pinned and worker.ends > self.now and worker.since >= box.started:
                        count += any(
                            self.reached(other, peer) == (daemon, box) for _, live, _ in worker.loaded.groups for peer in live
                        )
        return count

    def reached(self, daemon: Daemon, peer: str) -> tuple[Daemon, Box] | None:
        """Whom a connection from a server's nginx to `ip:port` reaches."""
        found = self.machine_at(peer.rpartition(":")[0]) or daemon
        box = found.boxes.at(peer)
        return (found, box) if box is not None else None

    def forwarded(self, daemon: Daemon, peer: str) -> bool:
        """Whether Docker's forwarder takes what a server sends to `ip:port`, a published port of its own, and nobody listens there.

        From other servers the kernel forwards, and the connection is refused.
        """
        return self.machine_at(peer.rpartition(":")[0]) is daemon and daemon.boxes.forwarded(peer)

    def machine_at(self, host: str) -> Daemon | None:
        """The server with a private address."""
        if not host.startswith("10.0.0."):
            return None
        return next((d for d in self.daemons.values() if address(d.machine) == host), None)

    # What daemons tell

    def acts(self, daemon: Daemon, action: Action) -> None:
        """An action begins."""
        name = getattr(action, "name", None) or str(getattr(action, "instance", "")) or getattr(action, "reference", "")
        self.say(daemon, f"{action.kind} {name} ({action.cause})")
        self.invariants.planned(daemon, action)

    def pushed(self, daemon: Daemon, updates: list[Update], outcome: str) -> None:
        """A push has been made."""
        if outcome != "lands":
            self.say(daemon, f"push {', '.join(update.ref for update in updates)}: {outcome}")
        for update in updates if outcome in ("lands", "unheard") else ():
            if self.remote.refs.get(update.ref) == update.oid:
                self.invariants.wrote(daemon, update.ref)
        self.invariants.looks()

    def say(self, daemon: Daemon | None, words: str) -> None:
        """One line of what happened."""
        self.log.append(f"{self.now:.1f} {daemon.machine + ' ' if daemon is not None else ''}{words}")

    def fail(self, invariant: str, message: str) -> None:
        """An invariant is broken."""
        raise Broken(
            invariant, f"{message} (seed {self.scene.seed}, {len(self.daemons)} machines, at {self.now:.1f})", tuple(self.log)
        )

    def nginxes(self) -> Iterator[tuple[Daemon, Box]]:
        """Every running nginx."""
        return ((daemon, box) for daemon in self.daemons.values() for box in daemon.boxes.nginxes())


def _words(moment: Moment) -> str:
    if isinstance(moment, str):
        return moment
    match moment:
        case e.Create():
            return f"create {moment.plan.name}"
        case e.Switch():
            return f"switch {', '.join(target.name for target in moment.targets)}"
        case _:
            return f"{moment.kind} {getattr(moment, 'name', '') or getattr(moment, 'container', '')}"
