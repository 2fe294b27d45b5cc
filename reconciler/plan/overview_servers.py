"""One server at a glance: its part, what it has seen and serves, how far behind it is, and what is not in order."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.model.cluster import ClusterState
from reconciler.model.overview import Behind, Facts, Moment, Part, ServerGlance
from reconciler.model.report import Condition, InstanceReport, Report

QUIET_CONDITIONS = ("Ready", "Brake")
"""Conditions that say nothing which the services and the decision do not say by themselves."""


def server_glance(name: str, cluster: ClusterState | None, report: Report | None, facts: Facts, now: int) -> ServerGlance:
    """`report`: None when there is none or it cannot be read (`facts.unreadable`). `now`: seconds since 1970 on this machine."""
    entry = (facts.servers or {}).get(name)
    said = report is not None or name in facts.unreadable
    part = _part(name, cluster, facts, reports=said)
    behind = _behind(cluster, report, facts, now) if part == "member" else None
    reported = facts.reported.get(name)
    ours = report is not None and cluster is not None
    seen, serving = (report.seen, report.serving) if report is not None else (None, None)
    return ServerGlance(
        server=name,
        zone=entry.zone if entry is not None else None,
        state=entry.state if entry is not None else None,
        part=part,
        program=report.program if report is not None else None,
        reported=reported,
        reported_seconds=ago(reported, now),
        seen=seen.generation if ours and cluster is not None and seen is not None and seen.epoch == cluster.epoch else None,
        serves=serving.generation
        if ours and cluster is not None and serving is not None and serving.epoch == cluster.epoch
        else None,
        behind=behind,
        live=sum(entry.phase == "live" for entry in report.instances) if report is not None else 0,
        words=tuple(_words(name, part, report, facts)),
        remarks=tuple(_remarks(name, part, report, cluster, facts)),
    )


def ago(moment: Moment | None, now: int) -> int | None:
    """Whole seconds; a clock that is ahead of this one counts as now."""
    return max(now - moment.at, 0) if moment is not None else None


def _part(name: str, cluster: ClusterState | None, facts: Facts, *, reports: bool) -> Part:
    """First match wins."""
    if cluster is not None and name in cluster.members:
        return "member"
    if cluster is None or facts.servers is None:
        return "unknown"
    if name not in facts.servers:
        return "removed"
    return "newcomer" if reports else "silent newcomer"


def _behind(cluster: ClusterState | None, report: Report | None, facts: Facts, now: int) -> Behind | None:
    """What a member lacks. None without a readable report: then nothing is known, and that is said in words."""
    if cluster is None or report is None:
        return None
    seen, serving = report.seen, report.serving
    last_seen = seen.generation if seen is not None and seen.epoch == cluster.epoch else None
    serves = serving.generation if serving is not None and serving.epoch == cluster.epoch else None
    if last_seen is None or last_seen < cluster.generation:
        since = _oldest_after(last_seen, facts)
        return Behind(False, last_seen, cluster.generation, since, ago(since, now))
    if serves is None or serves < cluster.generation:
        since = _oldest_after(serves, facts)
        return Behind(True, serves, cluster.generation, since, ago(since, now))
    return None


def _oldest_after(generation: int | None, facts: Facts) -> Moment | None:
    """The oldest decision of this epoch that is later than `generation` (None: the one that the epoch began with)."""
    found = None
    for decided in facts.decisions:
        if generation is not None and decided.generation <= generation:
            break
        found = decided.moment
        if decided.begins:
            break
    return found


def _words(name: str, part: Part, report: Report | None, facts: Facts) -> Iterable[str]:
    """What is not in order."""
    machines = facts.machines.get(name, ())
    if {*machines[:2]} & {*machines[2:]}:
        ids = " and ".join(sorted(machines[:2]))
        yield f"two machines report as {name} in turns (instances {ids}): give one of them another name, or stop its daemon"
    if name in facts.unreadable:
        yield facts.unreadable[name]
    elif part == "member" and report is None:
        yield f"is a member and does not report: status/{name} is not there. Nothing is taken away while it may be needed there"
    elif part == "silent newcomer":
        yield "is in the inventory and has never reported: start its daemon, or look at its log"
    elif part == "newcomer":
        yield "is in the inventory and reports; a member lets it join when what it runs is settled"
    for condition in report.conditions if report is not None else ():
        if condition.type not in QUIET_CONDITIONS:
            yield _said(condition)
    for instance in report.instances if report is not None else ():
        if instance.phase in ("failed", "stalled"):
            yield _instance(instance)


def _said(condition: Condition) -> str:
    about = f"{condition.service}: " if condition.service else ""
    return f"{about}{condition.reason}" + (f": {condition.message}" if condition.message else "")


def _instance(entry: InstanceReport) -> str:
    replica = f" replica {entry.replica}" if entry.replica > 1 else ""
    return f"{entry.service}{replica} {entry.slot} {entry.phase}" + (f": {entry.reason}" if entry.reason else "")


def _remarks(name: str, part: Part, report: Report | None, cluster: ClusterState | None, facts: Facts) -> Iterable[str]:
    """What is worth knowing and in order."""
    entry = (facts.servers or {}).get(name)
    services = cluster.services if cluster is not None else {}
    left_there = sorted(key for key, state in services.items() if any(b.server == name for b in state.backends))
    if entry is not None and entry.state == "drained":
        yield f"drained; still there: {', '.join(left_there)}" if left_there else "drained, and empty"
    if part == "removed":
        left = len(report.instances) if report is not None else 0
        yield f"not in the inventory any more; {left} instances left" if left else f"gone; delete the branch status/{name}"
    machines = facts.machines.get(name, ())
    if len(machines) == 2 and len(set(machines)) == 2:
        yield "reports from another machine, or with a new state directory, than before"
    if report is not None and cluster is not None and report.program != cluster.decided_by.program:
        yield f"runs program {report.program}; the decision was made by {cluster.decided_by.program}"
