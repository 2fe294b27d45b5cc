"""What is live, found again from what runs, when the cluster state is lost (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.cluster import Backend, Live, ServiceState
from reconciler.model.desired import Desired
from reconciler.model.identity import ServiceKey
from reconciler.model.report import InstanceReport, Report


def rebuild(desired: Desired, reports: Mapping[str, Report]) -> dict[str, ServiceState]:
    """Per service: on each server the older healthy instance of each replica is live; the others are left out and get removed.

    Reports order the instances of a server by age, the oldest first. One that never passed its gate is never live.
    """
    found: dict[str, dict[tuple[str, int], InstanceReport]] = {}
    for server, report in sorted(reports.items()):
        for entry in report.instances:
            if entry.phase in ("live", "ready", "draining"):
                found.setdefault(entry.service, {}).setdefault((server, entry.replica), entry)
    states = {}
    for name, places in found.items():
        key = ServiceKey.parse(name)
        spec, sample = _commonest(places)
        service = desired.services.get(key) or desired.service_at(key, spec)
        backends = tuple(
            Backend(server=s, replica=r, slot=e.slot, port=e.port, spec=e.spec, role="live", weight=100)
            for (s, r), e in sorted(places.items())
        )
        states[name] = ServiceState(
            internal_port=service.internal_port if service else 0,
            container_port=service.spec.port if service else 0,
            live=Live(spec=spec, revision=sample.revision or desired.revision.sha, image=sample.image),
            backends=backends,
        )
    return states


def _commonest(places: Mapping[tuple[str, int], InstanceReport]) -> tuple[str, InstanceReport]:
    """The spec that most instances run (the smaller digest when equal), and one instance of it."""
    specs = [entry.spec for entry in places.values()]
    spec = min(set(specs), key=lambda digest: (-specs.count(digest), digest))
    return spec, next(entry for _, entry in sorted(places.items(), key=lambda item: item[0]) if entry.spec == spec)
