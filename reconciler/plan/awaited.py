"""What a push is worth: what a decision may depend on goes at once, what people want to know a while later, the rest rides along.

DESIGN section 5: Git hosts recommend few pushes, so a report that changes nothing for anybody waits for one that does.
"""

from __future__ import annotations

from reconciler.model.cluster import ClusterState, ServiceState
from reconciler.model.identity import ServiceKey
from reconciler.model.report import Report
from reconciler.plan.activity import under_way
from reconciler.plan.switching import knows_only_the_old
from reconciler.plan.votes import acknowledged, gone, pinned, unretired, vote

VOTES = ("ready", "failed", "live")


def awaited(cluster: ClusterState, told: Report | None, now: Report) -> bool:
    """Whether `now` says something that a decision may need and that the last report on the remote, `told`, does not say."""
    if told is None:
        return True
    if now.server not in cluster.members:
        return _joining(cluster, told) != _joining(cluster, now)
    if told.seen is None or told.seen.epoch != cluster.epoch:
        return True  # so far this server does not count
    if (told.refresh, told.retry) != (now.refresh, now.retry):
        return True
    return any(_news(ServiceKey.parse(name), state, cluster, told) != _news(ServiceKey.parse(name), state, cluster, now)
               for name, state in cluster.services.items())  # fmt: skip


def resolves(cluster: ClusterState, told: Report | None, now: Report) -> bool:
    """Whether `now` tells what a mutable tag is: one of the servers has to say it, unless all turn out to run the same."""
    return told is not None and bool(_resolved(cluster, now) - _resolved(cluster, told))


def settles(cluster: ClusterState, told: Report | None, now: Report) -> bool:
    """Whether `now` says, and `told` does not, that a decision is in place here after which nothing is under way.

    Nobody's decision waits for it, but people do: a commit that changes nothing for this server is not done before. In the middle
    of a rollout it goes with the vote that follows.
    """
    current = (cluster.epoch, cluster.generation)
    return not under_way(cluster) and _served(now) == current and _served(told) != current


def telling(told: Report | None, now: Report) -> bool:
    """Whether `now` has something for people that `told` does not say; what ends by itself, and when, is worth no push of its own.

    An instance that drains ends by itself, old nginx workers do, and which decision a server has read shows in what it does.
    """
    return told is None or _without_trifles(told) != _without_trifles(now)


def gathers(before: ClusterState, after: ClusterState) -> bool:
    """Whether a decision leaves rollouts waiting for votes that it could take with it if it came a little later."""
    return any(_staging(before.services.get(name)) and _staging(state) for name, state in after.services.items())


def only_words(before: ClusterState, after: ClusterState) -> bool:
    """Whether a decision differs in nothing but what it says of waiting."""
    return _without_words(before) == _without_words(after)


def only_images(before: ClusterState, after: ClusterState) -> bool:
    """Whether a decision does no more than record what a tag is, with what there is to say of waiting."""
    return _without_words(before, "image") == _without_words(after, "image")


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
        return report.server in acknowledged(cluster, reports, since, key), phases
    match rollout.phase:
        case "staging" | "replacing":
            entries = [vote(key, backend, rollout, cluster, reports) for backend in here]
            seen = report.seen is not None and report.seen.generation >= since
            votes = [e.phase for e in entries if e is not None and e.phase in VOTES]
            return seen and rollout.phase == "replacing", votes
        case "switching":
            blind = knows_only_the_old(state, rollout, report.server)
            return report.server in acknowledged(cluster, reports, since, key), retired and blind
        case "draining":
            there = [gone(key, backend, rollout, cluster, reports) for backend in here if backend.role == "draining"]
            return there, retired and (rollout.strategy == "remove" or state.held is not None)
        case _:
            return retired and state.held is not None


def _joining(cluster: ClusterState, report: Report) -> object:
    """What a member needs to know of a server before it lets it join: see `decide`."""
    return report.seen is None or report.seen.epoch == cluster.epoch, report.address, report.instances


def _served(report: Report | None) -> tuple[str, int] | None:
    serving = report.serving if report is not None else None
    return (serving.epoch, serving.generation) if serving is not None else None


def _resolved(cluster: ClusterState, report: Report) -> frozenset[str]:
    """The rollouts without a recorded image for which the report names the bytes of one."""
    named = {(entry.service, entry.rollout) for entry in report.instances if pinned(entry.image)}
    open_ = {n: s.rollout for n, s in cluster.services.items() if s.rollout is not None and s.rollout.image is None}
    return frozenset(n for n, r in open_.items() if r.phase in ("staging", "replacing") and (n, r.id) in named)


def _staging(state: ServiceState | None) -> bool:
    return state is not None and state.rollout is not None and state.rollout.phase == "staging"


def _without_trifles(report: Report) -> Report:
    instances = tuple(entry for entry in report.instances if entry.phase != "draining")
    return report.model_copy(update={"instances": instances, "retired": None, "seen": None})


def _without_words(cluster: ClusterState, *more: str) -> ClusterState:
    silent = dict.fromkeys(("reason", *more))
    services = {
        name: state.model_copy(update={"held": None, "rollout": state.rollout and state.rollout.model_copy(update=silent)})
        for name, state in cluster.services.items()
    }
    return cluster.model_copy(update={"services": services, "decided_by": None})
