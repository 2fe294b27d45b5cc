"""One server's program: what it keeps on disk, what it remembers, and its pass, which yields what it is about to do.

The pass is the engine's (`engine/cycle.py`) with the outside as plain calls. It decides nothing itself: `Rules` are the product's
own functions. Dropping the generator at a yield is the program's death at that moment.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reconciler.engine.carrying import FIRST_DELAY, MOST_DELAY
from reconciler.engine.executor import steps
from reconciler.engine.following import Copy, seen_by
from reconciler.engine.publishing import RIDE_SECONDS
from reconciler.engine.refusals import Refusals
from reconciler.engine.world import Identity
from reconciler.errors import Stalled, Transient
from reconciler.model.action import (
    Action,
    PrepareImage,
    Reload,
    RemoveInstance,
    SignalInstance,
    StartContainer,
    StartInstance,
    StartNginx,
)
from reconciler.model.cluster import ClusterState, Decider
from reconciler.model.desired import Desired
from reconciler.model.effect import Effect, Switch, WriteConfig
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.report import Report
from reconciler.model.site import Site
from reconciler.model.switched import Switched
from reconciler.plan import facts
from reconciler.plan.awaited import awaited, only_words, resolves, telling
from reconciler.plan.masks import PulseTarget, pulse_targets, several
from reconciler.plan.nginxes import Intended
from reconciler.plan.wanted import wanted
from tests.simulation.boxes import Boxes
from tests.simulation.looking import look, nginx_states
from tests.simulation.pulls import Pulls
from tests.simulation.pulses import Pulses
from tests.simulation.remote import CLUSTER, Content, Pushed, Update
from tests.simulation.rules import Remembered
from tests.simulation.trace import Pass
from tests.simulation.versions import index_of

if TYPE_CHECKING:
    from tests.simulation.world import World

WORDS = 30.0
DECISIONS = 20

Moment = Effect | str
Answer = None | Exception | str


@dataclass(frozen=True)
class View:
    """What a fetch brought."""

    head: int
    cluster: Content | None
    oid: str | None
    reports: Mapping[str, Report]
    oids: Mapping[str, str]


@dataclass
class Disk:
    """What survives the program's end."""

    own: Copy | None = None
    view: View | None = None
    times: dict[str, float] = field(default_factory=dict)
    marks: set[str] = field(default_factory=set)


@dataclass
class InHand:
    """An action in the background: the effect that comes next, those after it, and when they are done."""

    action: Action
    effect: Effect
    rest: Iterator[Effect]
    due: float


@dataclass
class Daemon:
    """A machine and its program. `name` is the server's; two machines may have one. `identity` is lost with the state."""

    world: World
    name: str
    machine: str
    identity: str
    rate: float
    boxes: Boxes
    site: Site
    program: str = "1"
    locals: dict[str, str] = field(default_factory=dict)
    pulls: Pulls = field(default_factory=Pulls)
    disk: Disk = field(default_factory=Disk)
    away_until: float = 0.0
    cut_until: float = 0.0
    observed_at: float = 0.0
    unseen: set[str] = field(default_factory=set)
    held: tuple[Generator[Moment, Answer, bool], Moment, Pass] | None = None

    def __post_init__(self) -> None:
        self.restart()

    # Memory

    def restart(self) -> None:
        """The program ends and is started again: what it remembered is gone."""
        self.view: View | None = None
        self.report: Report | None = None
        self.told: Report | None = None
        self.known: ClusterState | None = None
        self.spoken = False
        self.proposal: tuple[ClusterState, str | None, str | None] | None = None
        self.unsaid: float | None = None
        self.words: float | None = None
        self.probes: dict[str, float] = {}
        self.heals: dict[str, list[float]] = {}
        self.troubles: dict[str, tuple[float, int, str | None, bool, str]] = {}
        self.pulls.forget()
        self.pulses = Pulses()
        self.in_hand: dict[str, InHand] = {}
        self.pairs: dict[str, tuple[str, str]] = {}
        self.texts = Remembered(self.world.rules.render)
        self.refusals = Refusals(self.texts.render, self.boxes.texts.get)
        self.asked: tuple[tuple[object, ...], Elapsed] | None = None
        self.held = None

    def clock(self) -> float:
        """Its monotonic clock."""
        return self.world.now * self.rate

    @property
    def cluster(self) -> ClusterState | None:
        """The decision that it follows."""
        return self.disk.own.cluster if self.disk.own is not None else None

    # One pass

    def run(self, event: Pass) -> Generator[Moment, Answer, bool]:
        """One pass. Returns whether anything changed or was done."""
        world, unseen = self.world, set(self.unseen)
        before = (self.report, self.cluster, world.remote.pushes, self.boxes.version)
        if event.fetch and world.now >= self.cut_until:
            yield "fetch"
            self._take_in(world.view())
        elif self.view is None and self.disk.view is not None and self.disk.own is not None:
            self._take_in(self.disk.view)
        if self.view is None or world.now < self.boxes.deaf_until:
            return False
        desired = world.commits.desired(self.view.head)
        entry = desired.servers.get(self.name)
        known = self.cluster.addresses if self.cluster is not None else {}
        address = entry.address if entry is not None else known.get(self.name)
        if self.site.address != address:
            self.site = self.site.model_copy(update={"address": address})
        self.pulses.look(world.now, self._answers)
        observed = look(self, desired)
        if not self.spoken:
            try:
                world.rules.check_name(self.name, Identity(self.identity), self.view.reports.get(self.name), observed)
            except Stalled:
                return False
        yield "decide"
        self._decide_all(desired, observed)
        if self.cluster is not None:
            yield "plan"
            yield from self._carry_out(desired, observed, self.cluster, event)
            self.unseen -= unseen
        yield from self._publish(event)
        return before != (self.report, self.cluster, world.remote.pushes, self.boxes.version)

    def _answers(self, target: PulseTarget, address: str) -> bool:
        """Whether a backend answers this server's probe."""
        found = self.world.reached(self, address)
        return found is not None and (target.path is None or found[0].boxes.healthy(found[1], self.world.now))

    def _take_in(self, view: View) -> None:
        world = self.world
        self.view = self.disk.view = view
        self.told = view.reports.get(self.name)
        self.known = view.cluster if isinstance(view.cluster, ClusterState) else None
        if self.proposal is not None and self.proposal[1] != view.oid:
            self.proposal = None
        damage = "status/cluster is not a cluster state" if view.cluster is not None and self.known is None else None
        own = self.disk.own
        known = own.comes_from if own is not None else None
        lacks = known if known is not None and view.oid and not world.remote.descends(view.oid, known) else None
        epoch = f"epoch{world.epochs + 1}"
        seen = seen_by([*view.reports.values(), *([self.report] if self.report is not None else [])])
        followed = world.rules.choose(self.known, damage, view.oid, own, server=self.name, epoch=epoch, lacks=lacks, seen=seen)
        if followed.notice is not None and followed.cluster is not None:
            world.epochs += 1
            world.say(self, followed.notice)
            world.invariants.rebuilt(self, followed.cluster)
        if followed.cluster is None:
            self.disk.own = None
        elif own is None or followed.cluster is not own.cluster or followed.based_on != own.based_on:
            self.disk.own = followed.copy()

    # Deciding

    def _decide_all(self, desired: Desired, observed: Observed) -> None:
        world, rules = self.world, self.world.rules
        assert self.view is not None
        for _ in range(DECISIONS):
            cluster = self.cluster
            made = self._make_report(desired, cluster, observed)
            self.report = self.report if made == self.report else made
            if not self._may_decide(cluster):
                return
            reports = {**self.view.reports, self.name: self.report}
            if cluster is None and rules.unsettled(reports):
                return
            decision = rules.decide(
                desired,
                cluster,
                reports,
                self.elapsed(cluster, observed),
                decider=Decider(server=self.name, program=self.program),
                fresh_epoch=f"epoch{world.epochs + 1}",
            )
            if cluster is not None and (decision.cluster is cluster or decision.cluster == cluster):
                self.words = None
                return
            alone = rules.sole(self.name, self.disk.own)
            if cluster is not None and not alone and self._mere_words(cluster, decision.cluster):
                return
            if cluster is None:
                world.epochs += 1
            world.say(self, f"g{decision.cluster.generation}: " + " | ".join(decision.reasons))
            own = self.disk.own
            based_on = own.based_on if own is not None else self.view.oid
            if not alone:
                self.proposal = (decision.cluster, based_on, own.lost if own is not None else None)
                world.invariants.proposed(self, cluster, decision)
                return
            world.invariants.decided(self, cluster, decision.cluster, decision.reasons)
            reasons = (*(own.reasons if own is not None else ()), *decision.reasons)
            self.disk.own = (
                replace(own, cluster=decision.cluster, reasons=reasons) if own else Copy(decision.cluster, None, reasons)
            )

    def _mere_words(self, cluster: ClusterState, decided: ClusterState) -> bool:
        if not only_words(cluster, decided):
            self.words = None
            return False
        self.words = self.clock() if self.words is None else self.words
        if self.clock() - self.words < WORDS:
            return True
        self.words = None
        return False

    def _may_decide(self, cluster: ClusterState | None) -> bool:
        assert self.view is not None
        commits, head = self.world.commits, self.view.head
        if cluster is not None:
            followed = index_of(cluster.config)
            behind = followed != head and commits.is_ancestor(head, followed)
            if not self.world.rules.may_decide(self.name, self.program, cluster, behind=behind):
                return False
        return self.proposal is None

    def _make_report(self, desired: Desired, cluster: ClusterState | None, observed: Observed) -> Report:
        assert self.view is not None
        return self.world.rules.report(
            desired,
            cluster,
            observed,
            self.site,
            self._intended(desired, cluster, observed),
            self.report or self.view.reports.get(self.name),
            identity=self.identity,
            elapsed=self.elapsed(cluster, observed),
            program=self.program,
        )

    def _intended(self, desired: Desired, cluster: ClusterState | None, observed: Observed) -> dict[str, Intended]:
        if cluster is None:
            return {}
        return self.texts.intended(desired, cluster, observed, self.site, self.elapsed(cluster, observed))

    def elapsed(self, cluster: ClusterState | None, observed: Observed) -> Elapsed:
        """How long facts have held; within a pass asked for again and again about the same things."""
        assert self.view is not None
        of = (cluster, observed, self.report, self.view, self.world.now)
        if self.asked is not None and all(one is other for one, other in zip(of, self.asked[0], strict=True)):
            return self.asked[1]
        reports = dict(self.view.reports)
        if self.report is not None:
            reports[self.name] = self.report
        current = facts.current(cluster, reports, observed)
        now = self.clock()
        self.disk.marks &= {facts.signalled(container.id) for container in observed.containers}
        kept = {fact: since for fact, since in self.disk.times.items() if fact in current or fact in self.disk.marks}
        for fact in current:
            kept.setdefault(fact, now)
        self.disk.times = kept
        elapsed = Elapsed.model_construct(seconds={fact: now - since for fact, since in kept.items()})
        self.asked = (of, self.world.rules.elapsed(elapsed))
        return self.asked[1]

    # Carrying out

    def _carry_out(
        self, desired: Desired, observed: Observed, cluster: ClusterState, event: Pass
    ) -> Generator[Moment, Answer, None]:
        world = self.world
        intended = self._intended(desired, cluster, observed)
        self.pulses.watch(pulse_targets(desired, cluster, observed, several(intended)), world.now)
        actions = world.rules.plan(desired, cluster, observed, self.elapsed(cluster, observed), self.site, intended)
        healing = {w.instance.name for w in wanted(desired, cluster, observed) if not w.gated}
        planned = {_about(action) for action in (*actions, *(held.action for held in self.in_hand.values()))}
        self.troubles = {about: trouble for about, trouble in self.troubles.items() if about in planned}
        for action in actions:
            instance = _instance(action)
            trouble = self.troubles.get(_about(action))
            if instance in self.in_hand or (trouble is not None and trouble[0] > self.clock()):
                continue
            world.acts(self, action)
            if isinstance(action, PrepareImage):
                self.pulls.prepare(action, world.now, answers=event.pull)
                continue
            if isinstance(action, SignalInstance):
                self.disk.marks.add(facts.signalled(action.id))
                self.disk.times.setdefault(facts.signalled(action.id), self.clock())
            if instance in healing and isinstance(action, StartInstance | StartContainer):
                self.heals.setdefault(instance or "", []).append(self.clock())
            yield from self._steps(action, instance, event)

    def _steps(self, action: Action, instance: str | None, event: Pass) -> Generator[Moment, Answer, None]:
        rest = self._parts(steps(action, self.texts.render))
        for effect in rest:
            answer = yield effect
            if isinstance(answer, Exception):
                self.failed(action, answer)
                return
            if answer == "lingers" and instance is not None:
                self.in_hand[instance] = InHand(action, effect, rest, self.world.now + event.seconds)
                return
            if answer == "lingers":
                self.failed(action, Transient("out of time"))
                return
            if isinstance(effect, Switch) and isinstance(action, Reload):
                self._learn(effect, action)
        self.troubles.pop(_about(action), None)

    def _learn(self, switch: Switch, action: Reload) -> None:
        """What the engine is told of a switch: an nginx that has not done loading has not refused."""
        told, states = {target.name: target for target in switch.targets}, nginx_states(self)
        boxes = [box for box in self.boxes.nginxes() if box.plan.name in told and (box.coming is None or box.coming[1] is None)]
        outcomes = [
            Switched(name, states[name].loaded == told[name].fingerprint, None, states[name])
            for name in (box.plan.name for box in boxes)
        ]
        tried = {config.name: config for config in action.configs}
        self.refusals.learn(outcomes, tried, {box.plan.name: box.number for box in boxes})

    def _parts(self, effects: Iterator[Effect]) -> Iterator[Effect]:
        """A switch as what it is made of: the files of all, then each nginx told; the program may end between any two."""
        for effect in effects:
            if isinstance(effect, Switch):
                running = {box.plan.name for box in self.boxes.nginxes()}
                for target in effect.targets:
                    if target.name in running:
                        yield WriteConfig(name=target.name, text=target.text)
                for target in effect.targets:
                    yield Switch(targets=(target,))
            else:
                yield effect

    def failed(self, action: Action, error: Exception) -> None:
        """Remember what went wrong, and when to try again."""
        count = self.troubles.get(_about(action), (0.0, 0))[1] + 1
        again = self.clock() + min(MOST_DELAY, FIRST_DELAY * 2.0 ** min(count - 1, 10))
        about = action.container.name if isinstance(action, StartNginx) else None
        if isinstance(action, StartInstance | StartContainer):
            about = _instance(action)
        self.troubles[_about(action)] = (again, count, about, True, str(error))

    # Publishing

    def _publish(self, event: Pass) -> Generator[Moment, Answer, None]:
        world, own, report = self.world, self.disk.own, self.report
        assert report is not None and self.view is not None
        cluster = self.cluster
        updates: list[Update] = []
        if self.proposal is not None:
            updates.append(Update(CLUSTER, world.remote.name(), self.proposal[1], self.proposal[0], self.proposal[2]))
        elif own is not None and own.cluster != self.known and own.cluster.decided_by.server == self.name:
            updates.append(Update(CLUSTER, world.remote.name(), own.based_on, own.cluster, own.lost))
        if report == self.told:
            self.unsaid = None
        elif updates or cluster is None or cluster.members == (self.name,) or self._worth_a_push(cluster, report):
            updates.append(Update(self.name, world.remote.name(), self.view.oids.get(self.name), report))
        if not updates:
            return
        yield "push"
        outcome = event.push if world.now >= self.cut_until else "lost"
        if outcome == "slow":
            world.remote.flying.append((world.now + event.seconds, tuple(updates)))
        pushed = world.remote.push(updates) if outcome in ("lands", "unheard") else Pushed()
        world.pushed(self, updates, outcome)
        yield "pushed"
        if outcome == "lands":
            self._landed(updates, pushed)

    def _worth_a_push(self, cluster: ClusterState, report: Report) -> bool:
        """What others wait for goes at once, what people want to know a while later, the rest with the next push."""
        if not telling(self.told, report):
            self.unsaid = None
        elif self.unsaid is None:
            self.unsaid = self.clock()
        rested = self.unsaid is not None and self.clock() - self.unsaid >= RIDE_SECONDS
        return rested or awaited(cluster, self.told, report) or resolves(cluster, self.told, report)

    def _landed(self, updates: list[Update], pushed: Pushed) -> None:
        assert self.view is not None
        view, oids = self.view, dict(self.view.oids)
        reports, cluster, oid = dict(view.reports), view.cluster, view.oid
        for update in updates:
            if update.ref not in pushed.landed:
                continue
            if isinstance(update.content, Report):
                self.told, self.spoken, self.unsaid = update.content, True, None
                oids[update.ref], reports[update.ref] = update.oid, update.content
            elif isinstance(update.content, ClusterState):
                self.known = cluster = update.content
                oid = update.oid
                self.disk.own = Copy(update.content, update.oid)
                self.proposal = None
        # As the clone does: what has landed is what the last fetch left.
        self.view = self.disk.view = View(view.head, cluster, oid, reports, oids)
        if pushed.rejected:
            self.proposal = None


def _instance(action: Action) -> str | None:
    match action:
        case StartInstance() | SignalInstance():
            return action.instance.name
        case StartContainer() | RemoveInstance():
            return action.name
        case _:
            return None


def _about(action: Action) -> str:
    name = _instance(action) or getattr(action, "reference", None) or getattr(action, "name", None)
    container = getattr(action, "container", "")
    return f"{action.kind} {name or getattr(container, 'name', container)}"
