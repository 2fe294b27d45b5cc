"""What a report is worth to others, which decides how long its push may rest (docs/decisions/0009-pushes.md)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from reconciler.engine.turns import GATHER_SECONDS, Pace, rank
from reconciler.model.cluster import ClusterState
from reconciler.model.report import Report
from reconciler.plan.awaited import awaited, resolves, settles, telling

OWN_WORD_SECONDS = 30.0
"""For so long (longer where polls and pushes are slow) the first in turn keeps its own word back for the decision it completes."""


@dataclass(frozen=True)
class Worth:
    """What a report is worth.

    waited_for: other members wait for what it says, so that only the back-off counts; `rests`: at first it is kept back for up to
    so many seconds, as more of that, or a decision to carry it, is about to come. riding: there are other members, and a push that
    carries it may come anyway: what nobody waits for rests for up to `publishing.RIDE_SECONDS`, and what is not even `telling`
    people anything until there is such a push.
    """

    waited_for: bool = False
    rests: float = 0.0
    riding: bool = False
    telling: bool = True


def worth(
    server: str, servers: Collection[str], cluster: ClusterState | None, told: Report | None, report: Report, pace: Pace
) -> Worth:
    """Of `server`'s report, when the remote has `told`. Its other votes, or those that complete them, may be about to come.

    servers: the inventory. A sole member beside newcomers says with its decisions what there is to say, and its pushes are few.
    """
    if cluster is None or {*cluster.members, *servers} == {server}:
        return Worth(telling=telling(told, report))
    if cluster.members == (server,):
        return Worth(riding=True, telling=telling(told, report))
    place, count = rank(server, cluster.members, cluster.decided_by.server), len(cluster.members)
    more = any(entry.phase in ("preparing", "starting") and entry.rollout for entry in report.instances)
    rests = GATHER_SECONDS if more else 0.0
    waited_for = awaited(cluster, told, report)
    if waited_for and place == 0:
        # It decides next, and cannot before the others have spoken: its own word goes with the decision.
        rests = max(pace.hearing(count), OWN_WORD_SECONDS)
    elif not waited_for and resolves(cluster, told, report):
        waited_for, rests = True, pace.hearing(count) + pace.stagger(place, count)
    elif not waited_for and settles(cluster, told, report):
        waited_for, rests = True, GATHER_SECONDS
    return Worth(waited_for, rests, riding=True, telling=telling(told, report))
