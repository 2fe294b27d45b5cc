"""Whether other members wait for what a server has to say: what a decision may depend on is pushed at once, the rest rides along.

DESIGN section 5: Git hosts recommend few pushes, so a report that changes nothing for anybody waits for one that does.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.model.cluster import ClusterState, Rollout, ServiceState
from reconciler.model.identity import ServiceKey
from reconciler.model.report import InstanceReport, Report
from reconciler.plan.votes import acknowledged, gone, pinned, unretired, vote

VOTES = ("ready", "failed", "live")


def awaited(cluster: ClusterState, told: Report | None, now: Report) -> bool:
    """Whether `now` says something that a decision may need and that the last report on the remote, `told`, does not say."""
    if now.server not in cluster.members or told is None or told.seen is None or told.seen.epoch != cluster.epoch:
        return True  # so far this server does not count
    if (told.refresh, told.retry) != (now.refresh, now.retry):
        return True
    return any(_news(ServiceKey.parse(name), state, cluster, told) != _news(ServiceKey.parse(name), state, cluster, now)
               for name, state in cluster.services.items())  # fmt: skip


def only_words(before: ClusterState, after: ClusterState) -> bool:
    """Whether a decision differs in nothing but what it says of waiting."""
    return _without_words(before) == _without_words(after)


def _news(key: ServiceKey, state: ServiceState, cluster: ClusterState, report: Report) -> object:
    """What one service's next decision may take from a report."""
    rollout = state.rollout
    if rollout is None:
        return None
    reports = {report.server: report}
    here = [backend for backend in state.backends if backend.server == report.server]
    since = rollout.switched_at or 0
    retired = report.server not in unretired(cluster, reports, since, key)
    if rollout.in_line:
        places = {(b.replica, b.slot) for b in here}
        told = [e for e in report.instances if e.service == str(key) and (e.replica, e.slot) in places]
        phases = [e.phase for e in told if e.phase in (*VOTES, "kept")]
        return report.server in acknowledged(cluster, reports, since, key), phases, _resolved(rollout, told)
    match rollout.phase:
        case "staging" | "replacing":
            entries = [vote(key, backend, rollout, cluster, reports) for backend in here]
            seen = report.seen is not None and report.seen.generation >= since
            votes = [e.phase for e in entries if e is not None and e.phase in VOTES]
            return seen and rollout.phase == "replacing", votes, _resolved(rollout, entries)
        case "switching":
            return report.server in acknowledged(cluster, reports, since, key), retired and _leaves(state)
        case "draining":
            there = [gone(key, backend, rollout, cluster, reports) for backend in here if backend.role == "draining"]
            return there, retired and (rollout.strategy == "remove" or state.held is not None)
        case _:
            return retired and state.held is not None


def _resolved(rollout: Rollout, entries: Iterable[InstanceReport | None]) -> bool:
    """Whether it names the bytes of an image for which none are recorded yet."""
    return rollout.image is None and any(e is not None and pinned(e.image) for e in entries)


def _leaves(state: ServiceState) -> bool:
    """Whether the old workers are waited for before anything drains (see `plan.switching`)."""
    live = {(b.server, b.replica) for b in state.backends if b.role == "live"}
    return any((b.server, b.replica) not in live for b in state.backends if b.role == "draining")


def _without_words(cluster: ClusterState) -> ClusterState:
    services = {
        name: state.model_copy(
            update={"held": None, "rollout": state.rollout and state.rollout.model_copy(update={"reason": None})},
        )
        for name, state in cluster.services.items()
    }
    return cluster.model_copy(update={"services": services, "decided_by": None})
