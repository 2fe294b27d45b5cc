"""This server's report and the others' (DESIGN section 5): what every decision is made from, and how long facts have been so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.engine.reports import read_reports
from reconciler.engine.requests import wishes
from reconciler.engine.texts import Texts
from reconciler.engine.times import Times
from reconciler.engine.world import Options, World
from reconciler.errors import ReconcilerError
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.report import Condition, Report
from reconciler.model.site import Site
from reconciler.model.switched import Switched
from reconciler.plan import facts
from reconciler.plan.reporting import report as make_report


class Reporter:
    """Remembers what everybody said last, this server included."""

    def __init__(self, world: World, server: str, options: Options, texts: Texts) -> None:
        self._journal = world.journal
        self._server = server
        self._options = options
        self._texts = texts
        self._times = Times(world.clock, world.journal)
        self._told: Mapping[str, Report] = {}
        self._notices: dict[str, Condition] = {}
        self._own: Report | None = None
        self._verified_ms: float | None = None

    @property
    def own(self) -> Report | None:
        """What this process said last."""
        return self._own

    @property
    def told(self) -> Report | None:
        """This server's report as the last poll found it on the remote."""
        return self._told.get(self._server)

    def all(self) -> dict[str, Report]:
        """Everybody's last report by server, this server's own as it is now."""
        return {**self._told, **({self._server: self._own} if self._own is not None else {})}

    def polled(self, raw: Mapping[str, bytes | ReconcilerError]) -> None:
        """Read the reports that a poll brought. What cannot be read is told in this server's own report."""
        self._told, problems = read_reports(raw, self._server)
        self._notices = {condition.message: condition for condition in problems}

    def elapsed(self, cluster: ClusterState | None, observed: Observed) -> Elapsed:
        """How long what holds now has held."""
        current = set(facts.current(cluster, self.all(), observed))
        self._times.keep_marks({facts.signalled(container.id) for container in observed.containers})
        return self._times.update(current)

    def signalled(self, container: str) -> None:
        """A container, by its ID, is asked to end: how long ago counts from now."""
        self._times.mark(facts.signalled(container))

    def switched(self, outcomes: Sequence[Switched]) -> None:
        """Nginxes were brought to a text: how long the slowest took is told once, with the generation that it belongs to."""
        times = [outcome.verified_ms for outcome in outcomes if outcome.verified_ms is not None]
        if times:
            self._verified_ms = round(max(times), 1)

    def make(
        self, desired: Desired, cluster: ClusterState | None, observed: Observed, site: Site, troubles: tuple[Condition, ...]
    ) -> Report:
        """Say anew what is so on this server; `troubles`: what keeps it from working as it should."""
        elapsed = self.elapsed(cluster, observed)
        intended = self._texts.intended(desired, cluster, observed, site, elapsed) if cluster is not None else {}
        previous = self._own or self.told
        made = make_report(
            desired,
            cluster,
            observed,
            site,
            intended,
            previous,
            identity=self._options.identity.own,
            program=self._options.program,
            elapsed=elapsed,
            verified_ms=self._verified_ms,
            troubles=(*self._notices.values(), *troubles),
            retry=wishes(self._journal, cluster),
        )
        if previous is None or made.serving != previous.serving:
            self._verified_ms = None
        self._own = made
        return made
