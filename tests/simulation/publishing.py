"""A simulated program pushes its report and what it decides."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from reconciler.engine.following import Copy
from reconciler.engine.publishing import RIDE_SECONDS
from reconciler.model.cluster import ClusterState
from reconciler.model.report import Report
from reconciler.plan.awaited import awaited, resolves, telling
from tests.simulation.disk import View
from tests.simulation.remote import CLUSTER, Pushed, Update
from tests.simulation.trace import Pass

if TYPE_CHECKING:
    from tests.simulation.daemon import Answer, Daemon, Moment


def publish(daemon: Daemon, event: Pass) -> Generator[Moment, Answer, None]:
    """Push what has to be known, if anything has."""
    world, own, report = daemon.world, daemon.disk.own, daemon.report
    assert report is not None and daemon.view is not None
    cluster = daemon.cluster
    updates: list[Update] = []
    if daemon.proposal is not None:
        updates.append(Update(CLUSTER, world.remote.name(), daemon.proposal[1], daemon.proposal[0], daemon.proposal[2]))
    elif own is not None and own.cluster != daemon.known and own.cluster.decided_by.server == daemon.name:
        updates.append(Update(CLUSTER, world.remote.name(), own.based_on, own.cluster, own.lost))
    if report == daemon.told:
        daemon.unsaid = None
    elif updates or cluster is None or cluster.members == (daemon.name,) or _worth_a_push(daemon, cluster, report):
        updates.append(Update(daemon.name, world.remote.name(), daemon.view.oids.get(daemon.name), report))
    if not updates:
        return
    yield "push"
    outcome = event.push if world.now >= daemon.cut_until else "lost"
    if outcome == "slow":
        world.remote.flying.append((world.now + event.seconds, tuple(updates)))
    pushed = world.remote.push(updates) if outcome in ("lands", "unheard") else Pushed()
    world.pushed(daemon, updates, outcome)
    yield "pushed"
    if outcome == "lands":
        _landed(daemon, updates, pushed)


def _worth_a_push(daemon: Daemon, cluster: ClusterState, report: Report) -> bool:
    """What others wait for goes at once, what people want to know a while later, the rest with the next push."""
    if not telling(daemon.told, report):
        daemon.unsaid = None
    elif daemon.unsaid is None:
        daemon.unsaid = daemon.clock()
    rested = daemon.unsaid is not None and daemon.clock() - daemon.unsaid >= RIDE_SECONDS
    return rested or awaited(cluster, daemon.told, report) or resolves(cluster, daemon.told, report)


def _landed(daemon: Daemon, updates: list[Update], pushed: Pushed) -> None:
    assert daemon.view is not None
    view, oids = daemon.view, dict(daemon.view.oids)
    reports, cluster, oid = dict(view.reports), view.cluster, view.oid
    for update in updates:
        if update.ref not in pushed.landed:
            continue
        if isinstance(update.content, Report):
            daemon.told, daemon.spoken, daemon.unsaid = update.content, True, None
            oids[update.ref], reports[update.ref] = update.oid, update.content
        elif isinstance(update.content, ClusterState):
            daemon.known = cluster = update.content
            oid = update.oid
            daemon.disk.own = Copy(update.content, update.oid)
            daemon.proposal = None
    # As the clone does: what has landed is what the last fetch left.
    daemon.view = daemon.disk.view = View(view.head, cluster, oid, reports, oids)
    if pushed.rejected:
        daemon.proposal = None
