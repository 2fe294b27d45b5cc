"""What the reports say about one rollout. A vote counts only for the rollout, slot and digest that it names (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.model.cluster import Backend, ClusterState, Rollout
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Elapsed
from reconciler.model.report import InstanceReport, Report
from reconciler.plan import facts


@dataclass(frozen=True)
class Tally:
    """Votes on the staged backends of a rollout."""

    ready: tuple[tuple[Backend, InstanceReport], ...]
    failed: tuple[tuple[Backend, InstanceReport], ...]
    waiting: tuple[tuple[Backend, InstanceReport | None], ...]

    @property
    def unanimous(self) -> bool:
        """Every assigned server is ready."""
        return not self.failed and not self.waiting


def pinned(reference: str | None) -> bool:
    """Whether an image reference names its bytes, for every server: `name@sha256:...`."""
    return reference is not None and "@" in reference


def vote(
    key: ServiceKey, backend: Backend, rollout: Rollout, cluster: ClusterState, reports: Mapping[str, Report]
) -> InstanceReport | None:
    """The report's entry for a backend of this very rollout, if there is one.

    Identities are unique within an epoch: what was said in another one may speak of a rollout that only looks the same.
    """
    report = reports.get(backend.server)
    if report is None or report.seen is None or report.seen.epoch != cluster.epoch:
        return None
    for entry in report.at(str(key), backend.replica, backend.slot):
        if entry.rollout == rollout.id and entry.spec == rollout.target:
            return entry
    return None


def tally(
    key: ServiceKey, backends: Sequence[Backend], rollout: Rollout, cluster: ClusterState, reports: Mapping[str, Report]
) -> Tally:
    """Sort the votes on `backends`. One that is ready with other bytes than those recorded for the rollout is waited for."""
    ready, failed, waiting = [], [], []
    for backend in backends:
        entry = vote(key, backend, rollout, cluster, reports)
        other = entry is not None and pinned(rollout.image) and entry.image != rollout.image
        if entry is not None and entry.phase in ("ready", "live") and not other:
            ready.append((backend, entry))
        elif entry is not None and entry.phase == "failed":
            failed.append((backend, entry))
        else:
            waiting.append((backend, entry))
    return Tally(tuple(ready), tuple(failed), tuple(waiting))


def gone(key: ServiceKey, backend: Backend, rollout: Rollout, cluster: ClusterState, reports: Mapping[str, Report]) -> bool:
    """Whether the backend's server says, having seen the switch, that the instance is no longer there."""
    report = reports.get(backend.server)
    if report is None or report.seen is None or report.seen.epoch != cluster.epoch:
        return False
    if rollout.switched_at is not None and report.seen.generation < rollout.switched_at:
        return False
    return not report.at(str(key), backend.replica, backend.slot)


def acknowledged(cluster: ClusterState, reports: Mapping[str, Report], generation: int, key: ServiceKey | str) -> tuple[str, ...]:
    """The members that have not acknowledged `generation` of this epoch for a service yet, by name.

    A lost report blocks, never excuses; so does a service that some nginx of the member refused.
    """
    silent = []
    for member in cluster.members:
        report = reports.get(member)
        serving = report.serving if report else None
        if serving is None or serving.epoch != cluster.epoch or serving.generation < generation or str(key) in serving.without:
            silent.append(member)
    return tuple(silent)


def unretired(
    cluster: ClusterState, reports: Mapping[str, Report], generation: int, key: ServiceKey | str, elapsed: Elapsed | None = None
) -> tuple[str, ...]:
    """The members that may still have nginx workers older than `generation` of this epoch for a service, by name.

    elapsed: an acknowledgement that has been known for long enough says as much as a word about the workers, which then need not
    be pushed.
    """
    old = []
    for member in cluster.members:
        report = reports.get(member)
        serving = report.serving if report else None
        retired = report.retired if report else None
        if serving is None or serving.epoch != cluster.epoch or str(key) in serving.without:
            old.append(member)
            continue
        told = retired is not None and retired >= generation
        known = elapsed.of(facts.acknowledged(member, serving)) if elapsed is not None else 0.0
        if not told and (serving.generation < generation or known < facts.RETIRED_SECONDS):
            old.append(member)
    return tuple(old)
