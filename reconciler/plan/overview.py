"""`overview(cluster, reports, facts, now)`: what the decision, the reports and the history come to. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.model.cluster import Backend, ClusterState, ServiceState
from reconciler.model.identity import ServiceKey
from reconciler.model.overview import (
    Behind,
    Facts,
    Moment,
    Overview,
    Part,
    Place,
    Refused,
    RolloutGlance,
    ServerGlance,
    ServiceGlance,
)
from reconciler.model.report import Condition, InstanceReport, Report
from reconciler.plan.waiting import waits_for

QUIET_CONDITIONS = ("Ready", "Brake")
"""Conditions that say nothing which the services and the decision do not say by themselves."""


def overview(cluster: ClusterState | None, reports: Mapping[str, Report], facts: Facts, now: int) -> Overview:
    """Everything at a glance. `cluster`: the decision, None when there is none or it cannot be read (`facts.problems` says why).

    now: seconds since 1970 on this machine, for ages.
    """
    latest = facts.decisions[0].moment if facts.decisions else None
    tip = facts.tip
    return Overview(
        generation=cluster.generation if cluster is not None else None,
        epoch=cluster.epoch if cluster is not None else None,
        config=cluster.config if cluster is not None else None,
        subject=facts.subjects.get(cluster.config, "") if cluster is not None else "",
        decided=latest,
        decided_by=cluster.decided_by.server if cluster is not None else None,
        decided_seconds=_ago(latest, now),
        tip=tip,
        tip_subject=facts.subjects.get(tip.revision, "") if tip is not None else "",
        tip_seconds=_ago(tip.moment, now) if tip is not None else None,
        brake=cluster.brake if cluster is not None else None,
        servers=tuple(_server(name, cluster, reports.get(name), facts, now) for name in _names(cluster, reports, facts)),
        services=tuple(
            _service(name, state, cluster, reports, facts, now)
            for name, state in sorted(cluster.services.items() if cluster is not None else ())
        ),
        problems=facts.problems,
    )


def _ago(moment: Moment | None, now: int) -> int | None:
    """Whole seconds; a clock that is ahead of this one counts as now."""
    return max(now - moment.at, 0) if moment is not None else None


def _names(cluster: ClusterState | None, reports: Mapping[str, Report], facts: Facts) -> list[str]:
    members = cluster.members if cluster is not None else ()
    return sorted({*members, *(facts.servers or {}), *reports, *facts.unreadable})


def _part(name: str, cluster: ClusterState | None, facts: Facts, *, reports: bool) -> Part:
    """First match wins."""
    if cluster is not None and name in cluster.members:
        return "member"
    if cluster is None or facts.servers is None:
        return "unknown"
    if name not in facts.servers:
        return "removed"
    return "newcomer" if reports else "silent newcomer"


def _server(name: str, cluster: ClusterState | None, report: Report | None, facts: Facts, now: int) -> ServerGlance:
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
        reported_seconds=_ago(reported, now),
        seen=seen.generation if ours and cluster is not None and seen is not None and seen.epoch == cluster.epoch else None,
        serves=serving.generation
        if ours and cluster is not None and serving is not None and serving.epoch == cluster.epoch
        else None,
        behind=behind,
        live=sum(entry.phase == "live" for entry in report.instances) if report is not None else 0,
        words=tuple(_words(name, part, report, facts)),
        remarks=tuple(_remarks(name, part, report, cluster, facts)),
    )


def _behind(cluster: ClusterState | None, report: Report | None, facts: Facts, now: int) -> Behind | None:
    """What a member lacks. None without a readable report: then nothing is known, and that is said in words."""
    if cluster is None or report is None:
        return None
    seen, serving = report.seen, report.serving
    last_seen = seen.generation if seen is not None and seen.epoch == cluster.epoch else None
    serves = serving.generation if serving is not None and serving.epoch == cluster.epoch else None
    if last_seen is None or last_seen < cluster.generation:
        since = _oldest_after(last_seen, facts)
        return Behind(False, last_seen, cluster.generation, since, _ago(since, now))
    if serves is None or serves < cluster.generation:
        since = _oldest_after(serves, facts)
        return Behind(True, serves, cluster.generation, since, _ago(since, now))
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


def _service(
    name: str, state: ServiceState, cluster: ClusterState | None, reports: Mapping[str, Report], facts: Facts, now: int
) -> ServiceGlance:
    since = facts.live.get(name)
    rejected, rollout = state.rejected, state.rollout
    return ServiceGlance(
        service=name,
        live=state.live.revision if state.live is not None else None,
        subject=facts.subjects.get(state.live.revision, "") if state.live is not None else "",
        image=state.live.image if state.live is not None else None,
        since=since,
        since_seconds=_ago(since.moment, now) if since is not None else None,
        places=tuple(
            _place(name, state, b, reports.get(b.server), facts)
            for b in sorted(state.backends, key=lambda b: (b.role != "live", b.server, b.replica))
        ),
        rollout=_rollout(name, state, cluster, reports, facts, now) if cluster is not None else None,
        held=state.held,
        refused=Refused(rejected.revision, facts.subjects.get(rejected.revision, ""), rejected.reason, rejected.log)
        if rejected is not None
        else None,
        aborted=rollout.reason or "aborted" if rollout is not None and rollout.phase == "aborted" else None,
        words=tuple(_amiss(name, state, reports)),
    )


def _place(name: str, state: ServiceState, backend: Backend, report: Report | None, facts: Facts) -> Place:
    entry = _entry(name, backend, report)
    server = (facts.servers or {}).get(backend.server)
    phase = entry.phase if entry is not None else None
    revision = state.revision_of(backend.spec)
    return Place(backend.server, server.zone if server else None, backend.slot, backend.replica, backend.role, revision, phase)


def _entry(name: str, backend: Backend, report: Report | None) -> InstanceReport | None:
    place = (name, backend.replica, backend.slot)
    entries = report.instances if report is not None else ()
    return next((e for e in entries if (e.service, e.replica, e.slot) == place), None)


def _amiss(name: str, state: ServiceState, reports: Mapping[str, Report]) -> Iterable[str]:
    """Live instances that their servers do not call live. In the middle of a rollout the rollout says so."""
    if state.rollout is not None and state.rollout.phase not in ("done", "aborted"):
        return
    for backend in (b for b in state.backends if b.role == "live"):
        report = reports.get(backend.server)
        entry = _entry(name, backend, report)
        where = f"{backend.server} {backend.slot}" + (f" ({backend.replica})" if backend.replica > 1 else "")
        if report is not None and entry is None:
            yield f"{where} is live by the decision, and its server does not speak of it"
        elif entry is not None and entry.phase not in ("live", "ready", "failed", "stalled"):
            yield f"{where} is {entry.phase}" + (f": {entry.reason}" if entry.reason else "")


def _rollout(
    name: str, state: ServiceState, cluster: ClusterState, reports: Mapping[str, Report], facts: Facts, now: int
) -> RolloutGlance | None:
    rollout = state.rollout
    if rollout is None or rollout.phase in ("done", "aborted"):
        return None
    last = next((d.moment for d in facts.decisions if name in d.services), None)
    try:
        waits = waits_for(ServiceKey.parse(name), state, cluster, reports)
    except ValueError:  # a name that only a hand could have written
        waits = (rollout.reason,) if rollout.reason else ()
    return RolloutGlance(
        id=rollout.id,
        phase=rollout.phase,
        strategy=rollout.strategy,
        revision=rollout.revision,
        subject=facts.subjects.get(rollout.revision, ""),
        cause=rollout.cause,
        waits_for=waits,
        last=last,
        last_seconds=_ago(last, now),
    )
