"""One pass: take results, observe, decide, plan, carry out, report, publish. Called again and again; it never waits for a network.

The pass is level-triggered: it looks at what is, not at what happened. Whatever takes long is a background job whose result the
next pass finds.
"""

from __future__ import annotations

from reconciler.engine.configuration import Configuration
from reconciler.engine.copies import OwnCopy
from reconciler.engine.deciding import Deciding
from reconciler.engine.following import follow, seen_by
from reconciler.engine.own_server import OwnServer
from reconciler.engine.polling import GIT_LANE, POLL_JOB, RECALL_JOB, Polling
from reconciler.engine.ports import Snapshot
from reconciler.engine.publishing import PUSH_JOB, Publisher
from reconciler.engine.reporting import Reporter
from reconciler.engine.standing import check_name
from reconciler.engine.texts import Texts
from reconciler.engine.turns import Pace, fast_poll
from reconciler.engine.upkeep import Upkeep
from reconciler.engine.waits import awaits_others, due
from reconciler.engine.world import Options, Outcome, World
from reconciler.engine.worth import worth
from reconciler.errors import ReconcilerError, Stalled
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.observed import Observed
from reconciler.model.report import Report
from reconciler.model.site import Site
from reconciler.plan.activity import ending, under_way
from reconciler.plan.rebuild import unsettled

DECISIONS_MOST = 20


class Cycle:
    """The engine's memory between passes. One thread calls it."""

    def __init__(self, world: World, site: Site, options: Options) -> None:
        server, texts, self._pace = site.server, Texts(), Pace()
        self._world = world
        self._options = options
        self._name = server
        self._configuration = Configuration(server, options.policy, refuse_rewrite=options.refuse_rewrite)
        self._polling = Polling(world.git, world.jobs, world.clock, self._pace)
        self._publisher = Publisher(world, server, options.pushes_per_minute, GIT_LANE, self._pace)
        self._own = OwnCopy(world.journal, options.say)
        self._reporter = Reporter(world, server, options, texts)
        self._server = OwnServer(world, site, options, texts, self._reporter)
        self._deciding = Deciding(world, server, options, self._own, self._reporter, self._publisher, self._pace)
        self._upkeep = Upkeep(world, server, options.compact_after, options.say)
        self.passes = 0
        self.desired: Desired | None = None
        self.observed: Observed | None = None

    @property
    def cluster(self) -> ClusterState | None:
        """The decision that is followed now."""
        return self._own.cluster

    @property
    def report(self) -> Report | None:
        """What this server said last."""
        return self._reporter.own

    @property
    def publisher(self) -> Publisher:
        """How publishing goes."""
        return self._publisher

    @property
    def poll_error(self) -> ReconcilerError | None:
        """Why the last poll did not bring what the remote has now."""
        return self._polling.error

    @property
    def deciding(self) -> bool:
        """Whether there is something to decide for which this server waits for its turn."""
        return self._deciding.turn_in is not None

    def poll(self) -> bool:
        """Ask for a fetch in the background; False when one is under way."""
        decision = self._own.now.comes_from if self._own.now is not None else None
        return self._polling.poll(self._configuration.needed(self.cluster, self.observed), self._followed, decision)

    def recall(self) -> None:
        """Begin with what the last fetch left, so that healing does not wait for a remote that does not answer."""
        self._polling.recall(self._configuration.needed(self.cluster, None), self._followed)

    def clean_images(self) -> bool:
        """Remove built images that nothing uses, in the background."""
        if self.cluster is None or self.desired is None:
            return False
        return self._upkeep.clean_images(self.desired, self.cluster)

    def compact(self) -> bool:
        """Shorten long histories of status refs, in the background and only when all is quiet."""
        cluster = self.cluster
        if cluster is None or self._publisher.pending or self._publisher.proposing or under_way(cluster):
            return False
        return self._upkeep.compact(cluster)

    def step(self, *, flush: bool = False) -> Outcome:
        """One pass. `flush`: push what there is to say without regard to the budget (the last pass of `--once`)."""
        self.passes += 1
        try:
            return self._step(flush)
        except ReconcilerError as error:
            return Outcome(problem=error, next_in=5.0)

    def _step(self, flush: bool) -> Outcome:
        self._take_results()
        if self._polling.snapshot is None:
            if self.poll_error is not None and self._own.now is None:
                return Outcome(problem=self.poll_error)
            return Outcome(next_in=1.0)  # the first poll is under way
        if self.poll_error is None and self._configuration.unread(self.cluster) - self._polling.sought:
            # Planning without the files of what is live would take down the edge and put it up again.
            self.poll()
            return Outcome(next_in=1.0)
        desired = self._desire()
        observed = self._server.observe(desired, self.cluster)
        self.desired, self.observed = desired, observed
        if not self._publisher.spoken:
            check_name(self._name, self._options.identity, self._reporter.told, observed)
        decided = self._decide(desired, observed)
        if self._deciding.looks:
            self.poll()
        desired = self.desired  # deciding may have needed other revisions' specs
        cluster = self.cluster
        if cluster is None:
            self._publish(flush)
            return self._nothing_to_follow(desired)
        elapsed = self._reporter.elapsed(cluster, observed)
        carried = self._server.carry_out(desired, cluster, observed, elapsed)
        self._publish(flush)
        held = self._configuration.held is not None
        rest = due(self._name, cluster, observed, elapsed, self.report, held=held)
        waits = [t for t in (carried.next_in, self._publisher.next_in, self._deciding.turn_in, rest) if t is not None]
        others = awaits_others(self._name, desired.servers, cluster, deciding=self.deciding)
        return Outcome(
            busy=bool(carried.begun) or decided,
            next_in=min(waits, default=None),
            active={**ending(cluster, observed), **under_way(cluster)},
            problem=self.poll_error or self._deciding.problem,
            poll_in=fast_poll(len(cluster.members)) if others else None,
        )

    # The parts of a pass, in their order

    def _take_results(self) -> None:
        for name, result in self._world.jobs.take():
            if name == POLL_JOB:
                self._take_in(self._polling.polled(result))
            elif name == RECALL_JOB:
                if self._own.now is not None:
                    self._take_in(self._polling.recalled(result))
            elif name == PUSH_JOB:
                self._pushed(result)
            elif self._upkeep.finished(name, result):
                self.poll()
            else:
                self._server.finished(name, result)

    def _take_in(self, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            return
        self._deciding.polled(self._polling.shown)
        self._configuration.take(snapshot)
        self._reporter.polled(snapshot.reports)
        self._publisher.polled(snapshot)
        try:
            followed = follow(
                snapshot.cluster if self._options.status else None,
                snapshot.cluster_oid if self._options.status else None,
                self._own.now,
                server=self._name,
                epoch=self._options.epoch(),
                accepted=not self._options.status,
                lacks=snapshot.lacks,
                seen=seen_by(self._reporter.all().values()),
            )
        except Stalled as newer:
            # As if the remote were away: what is followed goes on and is healed; nothing is decided or pushed over what is newer.
            self._deciding.unreadable = newer
            return
        self._deciding.unreadable = None
        if followed.notice is not None:
            self._options.say(followed.notice)
        self._own.follow(followed)

    def _pushed(self, result: object) -> None:
        outcome = self._publisher.finished(result)
        for reason in outcome.reasons:
            self._options.say(reason)
        self._own.pushed(outcome)
        if outcome.poll:
            self._deciding.overtaken()
            self.poll()

    def _desire(self) -> Desired:
        desired = self._configuration.desired(self.cluster, self.observed)
        self._server.situate(desired, self.cluster)
        if self._configuration.lacking(self.cluster, self.observed):
            self.poll()
        return desired

    def _decide(self, desired: Desired, observed: Observed) -> bool:
        """Report and decide until nothing changes; True when there is a new decision to follow."""
        decided = False
        self._deciding.begin()
        for _ in range(DECISIONS_MOST):
            cluster = self.cluster
            troubles = (*self._server.conditions(), *self._configuration.conditions(), *self._deciding.conditions())
            self._reporter.make(desired, cluster, observed, self._server.site, troubles)
            snapshot = self._polling.snapshot
            behind = snapshot is not None and snapshot.behind
            if self._configuration.held is not None or not self._deciding.allowed(behind=behind):
                return decided
            if not self._deciding.decide(desired, self._reporter.elapsed(cluster, observed)):
                return decided
            decided = True
            self.desired = desired = self._desire()
        return decided

    def _publish(self, flush: bool) -> None:
        report = self.report
        if self._options.status and report is not None:
            servers = self.desired.servers if self.desired is not None else ()
            value = worth(self._name, servers, self.cluster, self._publisher.told, report, self._pace)
            own = self._own.now if self._deciding.unreadable is None else None
            self._publisher.publish(own, report, self.desired, value, flush=flush)

    def _nothing_to_follow(self, desired: Desired) -> Outcome:
        """This server is new, or the cluster state is: it waits for its turn, or for a health gate."""
        found = unsettled({self._name: self.report}) if self.report is not None else ()
        waiting = dict.fromkeys(found, "found running: its health gate tells whether it is live")
        waits = [t for t in (self._publisher.next_in, self._deciding.turn_in) if t is not None]
        poll_in = fast_poll(len(desired.servers))
        return Outcome(
            next_in=min(waits, default=None),
            active=waiting,
            problem=self._deciding.problem or self._publisher.undecided,
            poll_in=poll_in,
        )

    # Small parts

    @property
    def _followed(self) -> str | None:
        """The config revision that the decision follows."""
        return self.cluster.config if self.cluster is not None else None
