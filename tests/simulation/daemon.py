"""One server's program: what it keeps on disk, what it remembers, and its pass, which yields what it is about to do.

The pass is the engine's (`engine/cycle.py`) with the outside as plain calls. It decides nothing itself: `Rules` are the product's
own functions. Dropping the generator at a yield is the program's death at that moment.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from operator import is_
from typing import TYPE_CHECKING

from reconciler.engine.following import Copy, seen_by
from reconciler.engine.refusals import Refusals
from reconciler.engine.world import Identity
from reconciler.errors import Stalled
from reconciler.model.cluster import ClusterState, Decider
from reconciler.model.desired import Desired
from reconciler.model.effect import Effect
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.report import Report
from reconciler.model.site import Site
from reconciler.plan import facts
from reconciler.plan.awaited import only_words
from reconciler.plan.masks import PulseTarget
from reconciler.plan.nginxes import Intended
from tests.simulation.boxes import Boxes
from tests.simulation.carrying import InHand, carry_out
from tests.simulation.disk import Disk, View
from tests.simulation.looking import Probes, look
from tests.simulation.publishing import publish
from tests.simulation.pulls import Pulls
from tests.simulation.pulses import Pulses
from tests.simulation.rules import Remembered
from tests.simulation.trace import Pass
from tests.simulation.versions import index_of

if TYPE_CHECKING:
    from tests.simulation.world import World

WORDS = 30.0
DECISIONS = 20

Moment = Effect | str
Answer = None | Exception | str


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
        self.probes = Probes()
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
            yield from carry_out(self, desired, observed, self.cluster, event)
            self.unseen -= unseen
        yield from publish(self, event)
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
            self.intended(desired, cluster, observed),
            self.report or self.view.reports.get(self.name),
            identity=self.identity,
            elapsed=self.elapsed(cluster, observed),
            program=self.program,
        )

    def intended(self, desired: Desired, cluster: ClusterState | None, observed: Observed) -> dict[str, Intended]:
        """What its nginxes should have loaded."""
        if cluster is None:
            return {}
        return self.texts.intended(desired, cluster, observed, self.site, self.elapsed(cluster, observed))

    def elapsed(self, cluster: ClusterState | None, observed: Observed) -> Elapsed:
        """How long facts have held; within a pass asked for again and again about the same things."""
        assert self.view is not None
        of = (cluster, observed, self.report, self.view, self.world.now)
        if self.asked is not None and all(map(is_, of, self.asked[0])):
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
