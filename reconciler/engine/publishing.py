"""Pushes what a pass has to say: the cluster state and this server's report, in one push (DESIGN section 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from reconciler.engine.following import Copy, read_cluster, write_yaml
from reconciler.engine.ports import ClockPort, GitPort, JobsPort, Publication, Published, Snapshot
from reconciler.engine.pushes import Pushes
from reconciler.engine.reports import read_report
from reconciler.engine.turns import Pace
from reconciler.engine.worth import Worth
from reconciler.errors import ReconcilerError, Transient
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.report import Report
from reconciler.render.messages import cluster_message, report_message
from reconciler.render.status_page import status_page

PUSH_JOB = "push"
CLUSTER = "cluster"
RIDE_SECONDS = 60.0


class _World(Protocol):
    @property
    def git(self) -> GitPort: ...
    @property
    def clock(self) -> ClockPort: ...
    @property
    def jobs(self) -> JobsPort: ...


@dataclass(frozen=True)
class _Sent:
    """What a push under way carries. `proposed`: the cluster state counts only once it has landed."""

    made: Copy | None
    proposed: bool
    report: Report | None


@dataclass(frozen=True)
class PushOutcome:
    """What to do after a push. `cluster`: (landed state, its commit, how many of the copy's reasons it told).

    adopt: it was a proposal, so it is followed from now on, for these `reasons`; otherwise the copy was ahead of what was pushed.
    """

    cluster: tuple[ClusterState, str, int] | None = None
    reasons: tuple[str, ...] = ()
    adopt: bool = False
    poll: bool = False


class Publisher:
    """Knows what the remote has, as far as this server can know it."""

    def __init__(self, world: _World, server: str, per_minute: int, lane: str, pace: Pace) -> None:
        self._world = world
        self._server = server
        self._lane = lane
        self._pushes = Pushes(world.clock, per_minute)
        self._pace = pace
        self._sent_at = 0.0
        self._cluster: ClusterState | None = None
        self._report: Report | None = None
        self._report_parent: str | None = None
        self._tip: str | None = None
        self._proposal: Copy | None = None
        self._sent: _Sent | None = None
        self._unsaid_since: float | None = None
        self._desired: Desired | None = None
        self._awaited_since: float | None = None
        self._spoken = False
        self.next_in: float | None = None

    @property
    def proposing(self) -> bool:
        """A decision is on its way; nothing is decided until it has landed or was overtaken."""
        return self._proposal is not None

    @property
    def pushing(self) -> bool:
        """A push is on its way, and what comes of it is not known."""
        return self._sent is not None

    @property
    def error(self) -> str | None:
        """Why the last push failed; None when it did not."""
        return self._pushes.error

    @property
    def undecided(self) -> ReconcilerError | None:
        """For a server that has nothing to follow yet: why it may not decide either; None when pushing goes well."""
        if self.error is None:
            return None
        return Transient(
            f"the cluster state cannot be pushed, so this server may not decide yet: {self.error}. Give it a key that may write "
            "status/* branches, set `status: {remote: ...}` to a repository that it may write, or `status: off`"
        )

    @property
    def spoken(self) -> bool:
        """Whether a report of this process has landed."""
        return self._spoken

    @property
    def told(self) -> Report | None:
        """This server's report on the remote, as far as is known."""
        return self._report

    @property
    def failures(self) -> int:
        """Pushes that failed in a row."""
        return self._pushes.failures

    @property
    def count(self) -> int:
        """Pushes made so far."""
        return self._pushes.count

    @property
    def pending(self) -> bool:
        """Whether something is still to be pushed or on its way."""
        return self._sent is not None or self.next_in is not None

    def polled(self, snapshot: Snapshot) -> None:
        """A fetch tells what the remote has now. A proposal that was made on another tip is overtaken."""
        self._tip = snapshot.cluster_oid
        self._report_parent = snapshot.report_oids.get(self._server)
        raw = snapshot.reports.get(self._server)
        found = read_report(self._server, raw) if isinstance(raw, bytes) else None
        self._report = found if isinstance(found, Report) else None
        try:
            self._cluster = read_cluster(snapshot.cluster)
        except (ValueError, ReconcilerError):
            self._cluster = None
        if self._proposal is not None and self._proposal.based_on != snapshot.cluster_oid and self._sent is None:
            self._proposal = None

    def propose(self, cluster: ClusterState, own: Copy | None, reasons: tuple[str, ...]) -> None:
        """A decision that counts only once it has landed on the tip that it was made on."""
        self._proposal = replace(own, cluster=cluster, reasons=reasons) if own else Copy(cluster, self._tip, reasons)

    def publish(self, own: Copy | None, report: Report, desired: Desired | None, worth: Worth, *, flush: bool) -> None:
        """Start a push if there is something to say and the budget allows it. `flush`: whatever the budget.

        desired: names servers' zones and the followed commit on the page.
        """
        self.next_in = None
        self._desired = desired
        sent = self._unsaid(own, report)
        waited_for, riding = worth.waited_for, worth.riding
        now = self._world.clock.monotonic()
        trifles = riding and sent.made is None and not worth.telling and not waited_for and not flush
        nothing = trifles or (sent.made is None and sent.report is None)
        if nothing:
            self._unsaid_since = self._awaited_since = None
        if nothing or self._sent is not None:
            return
        self._unsaid_since = now if self._unsaid_since is None else self._unsaid_since
        self._awaited_since = now if self._awaited_since is None or not waited_for else self._awaited_since
        wait = self._pushes.wait(urgent=flush or waited_for or self._proposal is not None)
        if waited_for and not flush and sent.made is None:
            wait = max(wait, self._awaited_since + worth.rests - now)
        if riding and not waited_for and not flush and sent.made is None:
            wait = max(wait, self._unsaid_since + RIDE_SECONDS - now)
        if wait > 0:
            self.next_in = wait
            return
        when, publications = self._world.clock.wall(), self._publications(sent)
        if self._world.jobs.submit(PUSH_JOB, lambda: self._world.git.publish(publications, when), lane=self._lane):
            self._sent, self._sent_at = sent, now
            self._unsaid_since = self._awaited_since = None
            self._pushes.started()

    def finished(self, result: object) -> PushOutcome:
        """Take the result of a push."""
        sent, self._sent = self._sent, None
        assert sent is not None
        if isinstance(result, ReconcilerError):
            self._pushes.failed(str(result))
            return PushOutcome()
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, Published)
        self._pace.pushed(self._world.clock.monotonic() - self._sent_at)
        report_oid = result.landed.get(self._server)
        if sent.report is not None and report_oid is not None:
            self._report, self._report_parent = sent.report, report_oid
            self._spoken = True
        cluster_oid = result.landed.get(CLUSTER)
        landed = None
        reasons: tuple[str, ...] = ()
        if sent.made is not None and cluster_oid is not None:
            self._cluster = sent.made.cluster
            landed = (sent.made.cluster, cluster_oid, len(sent.made.reasons))
            reasons = sent.made.reasons if sent.proposed else ()
            self._proposal = None
        if result.tips:
            self._proposal = None  # somebody else was first: fetch, decide again
        if result.error is not None:
            self._pushes.failed(result.error)
        else:
            self._pushes.succeeded()
        return PushOutcome(cluster=landed, reasons=reasons, adopt=sent.proposed, poll=bool(result.tips))

    def _unsaid(self, own: Copy | None, report: Report) -> _Sent:
        """What the remote does not have yet."""
        told = report if report != self._report else None
        if self._proposal is not None:
            return _Sent(self._proposal, proposed=True, report=told)
        if own is not None and own.cluster != self._cluster and own.cluster.decided_by.server == self._server:
            return _Sent(own, proposed=False, report=told)
        return _Sent(None, proposed=False, report=told)

    def _publications(self, sent: _Sent) -> list[Publication]:
        publications = []
        if sent.made is not None:
            publications.append(self._of_cluster(sent.made))
        if sent.report is not None:
            files, message = {"report.yaml": write_yaml(sent.report)}, report_message(self._report, sent.report)
            publications.append(Publication(self._server, files, self._report_parent, message))
        return publications

    def _of_cluster(self, made: Copy) -> Publication:
        cluster = made.cluster
        servers, revision = (self._desired.servers, self._desired.revision) if self._desired is not None else (None, None)
        files = {"cluster.yaml": write_yaml(cluster), "README.md": status_page(cluster, servers, revision).encode()}
        return Publication(CLUSTER, files, made.based_on, cluster_message(self._server, made.reasons, cluster), made.lost)
