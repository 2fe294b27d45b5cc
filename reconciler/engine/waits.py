"""How soon the next pass is worth while, from what is under way. Events wake the engine sooner; this is for what tells nobody."""

from __future__ import annotations

from collections.abc import Collection

from reconciler.model.cluster import ClusterState
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.report import Report
from reconciler.plan import facts
from reconciler.plan.activity import ending, under_way


def due(
    server: str, cluster: ClusterState, observed: Observed, elapsed: Elapsed, report: Report | None, *, held: bool
) -> float | None:
    """Seconds until a wait may be over; None when nothing is waited for. `held`: the config is held back on this server.

    Drains, old workers and back-offs are looked at often while there are any.
    """
    waiting = any(state.loaded is None for state in observed.nginx.values()) or bool(observed.connections)
    if waiting or facts.routing_workers(observed, elapsed) > 0 or ending(cluster, observed):
        return 0.5
    if under_way(cluster):
        # What others say comes with a poll, whose end asks for a pass; what this server does itself is looked at often.
        return 0.5 if _at_work(server, cluster, report) else 2.0
    failed = any(image.status == "failed" for image in observed.images.values())
    retrying = failed or any(state.held for state in cluster.services.values())
    return 5.0 if retrying or held else None


def awaits_others(server: str, servers: Collection[str], cluster: ClusterState, *, deciding: bool) -> bool:
    """A rollout among several, something to decide that another one may decide first, or not being a member yet.

    servers: the inventory; who is not a member yet reports any moment, and the rollout may need it.
    """
    several = len({*cluster.members, *servers}) > 1
    return (several and (deciding or bool(under_way(cluster)))) or server not in cluster.members


def _at_work(server: str, cluster: ClusterState, report: Report | None) -> bool:
    """Whether this server has something to do in what is under way: an instance behind its gate, or a text to be served."""
    if cluster.members == (server,) or report is None or report.serving is None:
        return True
    behind = (report.serving.epoch, report.serving.generation) != (cluster.epoch, cluster.generation)
    return behind or any(entry.phase in ("preparing", "starting", "waiting") for entry in report.instances)
