"""One rollout, the same bytes everywhere: a mutable tag is resolved by the first server that can (DESIGN section 3, Spec digest).

What is resolved is `name@sha256:...`, which every server can fetch. An image that is only on the servers themselves has an id,
which names bytes that nobody else can fetch, and a build promises the same tree: those are not pinned across servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.model.cluster import Backend, ClusterState, Rollout, ServiceState
from reconciler.model.desired import DesiredService
from reconciler.model.identity import ServiceKey
from reconciler.model.report import InstanceReport, Report
from reconciler.plan.step import Step
from reconciler.plan.votes import Tally, pinned, vote


def given(want: DesiredService) -> str | None:
    """What the config itself pins."""
    return want.spec.image if want.spec.build is None and pinned(want.spec.image) else None


def found(
    key: ServiceKey,
    want: DesiredService,
    rollout: Rollout,
    backends: Sequence[Backend],
    cluster: ClusterState,
    reports: Mapping[str, Report],
) -> tuple[str, str] | None:
    """(server, reference): what the first of the rollout's servers (by name) resolved the image to, while nothing is recorded."""
    if rollout.image is not None or want.spec.build is not None or len(backends) < 2:
        return None
    for backend in sorted(backends, key=lambda b: (b.server, b.replica)):
        entry = vote(key, backend, rollout, cluster, reports)
        if entry is not None and entry.image is not None and pinned(entry.image):
            return backend.server, entry.image
    return None


def pin(want: DesiredService, state: ServiceState, rollout: Rollout, image: tuple[str, str]) -> Step:
    """Record what `found` found: from then on every server runs exactly that."""
    server, reference = image
    recorded = rollout.model_copy(update={"image": reference})
    new = state.model_copy(update={"rollout": recorded})
    return Step(new, reasons=(f"image {want.spec.image} is {reference}, as {server} found it",))


def differ(votes: Tally) -> bool:
    """Whether the servers have not resolved the image to the same bytes, all of them: then one has to be recorded."""
    return not votes.unanimous or len({entry.image for _, entry in votes.ready}) > 1


def agreed(want: DesiredService, rollout: Rollout, ready: Sequence[tuple[Backend, InstanceReport]]) -> str | None:
    """The reference to record as live: what everybody runs. None for a local image that is not the same on every server."""
    if rollout.image is not None:
        return rollout.image
    images = sorted({(backend.server, entry.image) for backend, entry in ready if entry.image})
    if want.spec.build is None and len({image for _, image in images}) > 1:
        return None
    return images[0][1] if images else None
