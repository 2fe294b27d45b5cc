"""`overview(cluster, reports, facts, now)`: what the decision, the reports and the history come to. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.model.cluster import Backend, ClusterState, ServiceState
from reconciler.model.identity import ServiceKey
from reconciler.model.overview import (
    Facts,
    Overview,
    Place,
    Refused,
    RolloutGlance,
    ServiceGlance,
)
from reconciler.model.report import InstanceReport, Report
from reconciler.plan.overview_servers import ago, server_glance
from reconciler.plan.waiting import waits_for


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
        decided_seconds=ago(latest, now),
        tip=tip,
        tip_subject=facts.subjects.get(tip.revision, "") if tip is not None else "",
        tip_seconds=ago(tip.moment, now) if tip is not None else None,
        brake=cluster.brake if cluster is not None else None,
        servers=tuple(server_glance(name, cluster, reports.get(name), facts, now) for name in _names(cluster, reports, facts)),
        services=tuple(
            _service(name, state, cluster, reports, facts, now)
            for name, state in sorted(cluster.services.items() if cluster is not None else ())
        ),
        problems=facts.problems,
    )


def _names(cluster: ClusterState | None, reports: Mapping[str, Report], facts: Facts) -> list[str]:
    members = cluster.members if cluster is not None else ()
    return sorted({*members, *(facts.servers or {}), *reports, *facts.unreadable})


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
        since_seconds=ago(since.moment, now) if since is not None else None,
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
        last_seconds=ago(last, now),
    )
