"""What is live, found again from what runs, when the cluster state is lost or a server joins with instances (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.cluster import Backend, ClusterState, Live, Rollout, ServiceState
from reconciler.model.desired import Desired
from reconciler.model.identity import ServiceKey
from reconciler.model.report import InstanceReport, Report

_RANK = {"live": 0, "kept": 1, "draining": 1, "ready": 2}


def rebuild(desired: Desired, reports: Mapping[str, Report], generation: int = 1) -> dict[str, ServiceState]:
    """Per service: on each server the older healthy instance of each replica is live; the others drain.

    Reports order the instances of a server by age, the oldest first. One that never passed its gate is never live. Everything
    is in the phase after a switch, so that every member acknowledges `generation` before anything is removed or started.
    """
    found: dict[str, dict[tuple[str, int], list[InstanceReport]]] = {}
    for server, report in sorted(reports.items()):
        for entry in sorted(report.instances, key=lambda e: _RANK.get(e.phase, 3)):
            if entry.phase in _RANK:
                found.setdefault(entry.service, {}).setdefault((server, entry.replica), []).append(entry)
    return {name: _state(desired, ServiceKey.parse(name), places, generation) for name, places in sorted(found.items())}


def unsettled(reports: Mapping[str, Report]) -> tuple[str, ...]:
    """Services that still run behind their gates, by key: a cluster state is not created before it is known what is healthy."""
    waiting = {entry.service for report in reports.values() for entry in report.instances if entry.phase == "starting"}
    return tuple(sorted(waiting))


def adopt(desired: Desired, cluster: ClusterState, report: Report, generation: int) -> dict[str, ServiceState]:
    """The services that change because a server joins with instances of its own that are live there already."""
    changed = {}
    for name, found in rebuild(desired, {report.server: report}, generation).items():
        known = cluster.services.get(name)
        if known is None:
            changed[name] = found
            continue
        places = {(b.server, b.replica) for b in known.backends}
        spec = known.live.spec if known.live is not None else None
        new = tuple(b for b in found.backends if b.role == "live" and b.spec == spec and (b.server, b.replica) not in places)
        if new:
            changed[name] = known.model_copy(update={"backends": (*known.backends, *new)})
    return changed


def _state(
    desired: Desired, key: ServiceKey, places: Mapping[tuple[str, int], list[InstanceReport]], generation: int
) -> ServiceState:
    live = {place: entries[0] for place, entries in sorted(places.items())}
    spec, sample = _commonest(live)
    service = desired.services.get(key) or desired.service_at(key, spec)
    revision = sample.revision or desired.revision.sha
    backends = tuple(
        Backend(
            server=server,
            replica=replica,
            slot=entry.slot,
            port=entry.port,
            container_port=known.spec.port if (known := desired.service_at(key, entry.spec)) is not None else None,
            spec=entry.spec,
            role="live" if entry is live[server, replica] else "draining",
            weight=100 if entry is live[server, replica] else 0,
        )
        for (server, replica), entries in sorted(places.items())
        for entry in entries
    )
    rollout = Rollout(
        id=f"{desired.revision.short}/0",
        target=spec,
        revision=revision,
        image=sample.image,
        strategy="toggle",
        phase="switching",
        attempt=0,
        switched_at=generation,
        cause=f"found running ({desired.revision})",
    )
    return ServiceState(
        internal_port=service.internal_port if service else 0,
        container_port=service.spec.port if service else 0,
        live=Live(spec=spec, revision=revision, image=sample.image),
        rollout=rollout,
        backends=backends,
    )


def _commonest(live: Mapping[tuple[str, int], InstanceReport]) -> tuple[str, InstanceReport]:
    """The spec that most instances run (the smaller digest when equal), and one instance of it."""
    specs = [entry.spec for entry in live.values()]
    spec = min(set(specs), key=lambda digest: (-specs.count(digest), digest))
    return spec, next(entry for entry in live.values() if entry.spec == spec)
