"""Lets this server decide when it may and when it is its turn (DESIGN section 6). What is decided is `plan/decide.py`'s."""

from __future__ import annotations

from reconciler.engine.copies import OwnCopy
from reconciler.engine.newer import no_decider
from reconciler.engine.publishing import Publisher
from reconciler.engine.reporting import Reporter
from reconciler.engine.standing import may_decide, sole
from reconciler.engine.turns import Content, Pace, Turns, rank
from reconciler.engine.world import Options, World
from reconciler.errors import Stalled
from reconciler.model.cluster import ClusterState, Decider
from reconciler.model.desired import Desired
from reconciler.model.observed import Elapsed
from reconciler.model.report import Condition
from reconciler.plan.awaited import awaited, gathers, only_images, only_words
from reconciler.plan.decide import decide
from reconciler.plan.rebuild import unsettled

LOOKS_SECONDS = 1.0


class Deciding:
    """A sole member follows its decision at once; among several it counts once its push has landed, so they take turns.

    turn_in: seconds until this server may propose what there is to decide; None when there is nothing that waits for its turn.
    looks: its turn has come, and a poll has to show first that nobody else has decided meanwhile.
    """

    def __init__(
        self, world: World, server: str, options: Options, own: OwnCopy, reporter: Reporter, publisher: Publisher, pace: Pace
    ) -> None:
        self._server = server
        self._options = options
        self._own = own
        self._reporter = reporter
        self._publisher = publisher
        self._pace = pace
        self._turns = Turns(world.clock, pace)
        self._asked = 0.0
        self._overtaken = False
        self.turn_in: float | None = None
        self.looks = False
        self.unreadable: Stalled | None = None
        """Why the decision at the remote's tip cannot be read: it is a newer program's, and may say anything."""

    def polled(self, asked: float) -> None:
        """A poll that was asked for then has shown the remote's tip."""
        self._overtaken = False
        self._asked = asked

    def begin(self) -> None:
        """A pass begins."""
        self.turn_in, self.looks = None, False

    @property
    def problem(self) -> Stalled | None:
        """What keeps everybody with a program like this one from deciding until a person does something."""
        cluster = self._own.cluster
        if self.unreadable is not None or cluster is None:
            return self.unreadable
        return no_decider(self._server, self._options.program, cluster, self._reporter.all())

    def conditions(self) -> tuple[Condition, ...]:
        """The same, for its report."""
        found = self.problem
        if found is None:
            return ()
        kind = "Deciding" if self.unreadable is None else "ClusterReadable"
        return (Condition(type=kind, status=False, reason=found.reason, message=str(found)),)

    def overtaken(self) -> None:
        """Another one's decision has landed first: nothing is decided on the old tip again, until a poll shows the new one."""
        self._overtaken = True

    def allowed(self, *, behind: bool) -> bool:
        """Whether this server may decide now. `behind`: its view is older than its own last write."""
        cluster = self._own.cluster
        if self.unreadable is not None:
            return False
        if cluster is not None and not may_decide(self._server, self._options.program, cluster, behind=behind):
            return False
        return not self._publisher.proposing and not self._overtaken

    def decide(self, desired: Desired, elapsed: Elapsed) -> bool:
        """Decide once, from the reports as the reporter has them. True when there is a new decision to follow now."""
        cluster, reports = self._own.cluster, self._reporter.all()
        if cluster is None and unsettled(reports):
            return False  # what was never healthy must not become what is live
        decision = decide(
            desired,
            cluster,
            reports,
            elapsed,
            decider=Decider(server=self._server, program=self._options.program),
            fresh_epoch=self._options.epoch(),
        )
        if cluster is not None and decision.cluster == cluster:
            self._turns.nothing()
            return False
        if self._options.status and not sole(self._server, self._own.now):
            if self._is_our_turn(desired, cluster, decision.cluster):
                self._publisher.propose(decision.cluster, self._own.now, decision.reasons)
            return False
        for reason in decision.reasons:
            self._options.say(reason)
        self._own.decided(decision.cluster, decision.reasons)
        return True

    def _is_our_turn(self, desired: Desired, cluster: ClusterState | None, decided: ClusterState) -> bool:
        """Whether to propose it now. What this server's own news brings about rides with them; else the members take turns."""
        members = cluster.members if cluster is not None else tuple(desired.servers)
        place = rank(self._server, members, cluster.decided_by.server if cluster is not None else None)
        content: Content = _content(cluster, decided) if cluster is not None else "all"
        news = content in ("some votes", "all") and self._has_news(cluster)
        wait = self._turns.wait(self._own.tip, content, rank=0 if news else place, members=len(members), asked=self._asked)
        self.looks = wait is None and not news
        pushes = self._publisher.pushing  # what came of it has to be known first
        self.turn_in = LOOKS_SECONDS if self.looks or pushes else wait or None
        return not self.looks and not pushes and not wait

    def _has_news(self, cluster: ClusterState | None) -> bool:
        """Whether this server has to push a report that others wait for."""
        report = self._reporter.own
        return cluster is not None and report is not None and awaited(cluster, self._publisher.told, report)


def _content(cluster: ClusterState, decided: ClusterState) -> Content:
    if only_words(cluster, decided):
        return "words"
    if only_images(cluster, decided):
        return "images"
    return "some votes" if cluster.config == decided.config and gathers(cluster, decided) else "all"
