"""The names of facts whose duration matters. The engine remembers when each was first seen; `decide` and `plan` ask how long ago.

A fact that disappears is forgotten, so a name holds everything that makes it a different fact (rollout, container, generation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.model.cluster import ClusterState, Rollout
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Container, Elapsed, ImageState, NginxState, Observed, Refusal
from reconciler.model.report import Report, Serving
from reconciler.plan.outgoing import outgoing

RETRY_FIRST = 10.0
RETRY_MOST = 300.0
ROUTING_SECONDS = 60.0
RETIRED_SECONDS = 90.0
"""Seconds since a member's acknowledgement was first read after which its older workers route nothing any more, told or not: their
`ROUTING_SECONDS` began before it was written, and the rest makes up for a clock that goes too fast."""


def staging(key: ServiceKey | str, rollout: Rollout) -> str:
    """A rollout is in the phase that it is in, for the batch that it is at."""
    since = f":{rollout.switched_at}" if rollout.in_line and rollout.switched_at is not None else ""
    return f"{rollout.phase}:{key}:{rollout.id}{since}"


def aborted(key: ServiceKey | str, rollout: Rollout) -> str:
    """An attempt ended by a cause that may pass."""
    return f"aborted:{key}:{rollout.id}"


def unacknowledged(member: str, cluster: ClusterState) -> str:
    """A member has not acknowledged the current generation."""
    return f"unacknowledged:{member}:{cluster.epoch}:{cluster.generation}"


def acknowledged(member: str, serving: Serving) -> str:
    """A member says that it serves a generation, but for what an nginx of it refuses."""
    return f"acknowledged:{member}:{serving.epoch}:{serving.generation}" + "".join(f":{name}" for name in serving.without)


def draining(container_id: str) -> str:
    """A container's slot has lost its traffic everywhere and may be stopped."""
    return f"draining:{container_id}"


def signalled(container_id: str) -> str:
    """A draining container was sent its stop signal."""
    return f"signalled:{container_id}"


def down(instance: InstanceKey) -> str:
    """A live instance does not run."""
    return f"down:{instance.name}"


def image_failed(reference: str) -> str:
    """An image could not be prepared."""
    return f"image_failed:{reference}"


def refused(state: NginxState) -> str:
    """An nginx has refused a text, for the so many-th time."""
    return f"refused:{state.name}:{state.refused}:{state.tries}"


def refused_part(name: str, refusal: Refusal) -> str:
    """An nginx has refused one service's part of a text, for the so many-th time."""
    return f"refused:{name}:{refusal.upstream}:{refusal.kind}:{refusal.part}:{refusal.tries}"


def dead(address: str) -> str:
    """A backend that is listed does not answer."""
    return f"dead:{address}"


def old_workers(name: str, loaded: str | None) -> str:
    """An edge has workers from before the text that it has loaded."""
    return f"old_workers:{name}:{loaded}"


def routing_workers(observed: Observed, elapsed: Elapsed) -> int:
    """Old workers that may still choose a backend for somebody.

    An old worker has closed its listeners and ends keep-alive connections with the request they carry. Clients that have said
    nothing are cut after `client_header_timeout`. So after `ROUTING_SECONDS` it carries what is connected already, such as
    websockets; only an upload that lasts longer would be sent to a backend then, and finds the other slot as backup.
    """
    return sum(
        state.old_workers for name, state in observed.nginx.items() if elapsed.of(old_workers(name, state.loaded)) < ROUTING_SECONDS
    )


def retry_delay(attempts: int) -> float:
    """Seconds before attempt number `attempts` + 1: 10, 20, 40, ... at most 300. The engine adds jitter to network causes."""
    return min(RETRY_MOST, RETRY_FIRST * float(2 ** min(max(attempts - 1, 0), 10)))


def attempt(key: ServiceKey | str, rollout: Rollout | None) -> str:
    """`service@rollout`: what an image is prepared for."""
    return f"{key}@{rollout.id}" if rollout is not None else ""


def other_attempt(image: ImageState, attempt: str) -> bool:
    """Whether an image's failure belongs to another attempt than the one that needs it now."""
    return bool(attempt and image.attempt) and image.attempt != attempt


def settled_image(image: ImageState | None, attempt: str) -> bool:
    """Whether the image is here, and for a rollout (`attempt` not empty) was asked for by it: a tag may mean something else now."""
    return image is not None and image.status == "present" and (not attempt or image.attempt == attempt)


def current(cluster: ClusterState | None, reports: Mapping[str, Report], observed: Observed) -> frozenset[str]:
    """Every fact that holds now, for the engine to keep the time of (`signalled` is the engine's own: it did it)."""
    return frozenset(_current(cluster, reports, observed))


def _current(cluster: ClusterState | None, reports: Mapping[str, Report], observed: Observed) -> Iterator[str]:
    for reference, image in observed.images.items():
        if image.status == "failed":
            yield image_failed(reference)
    for name, nginx in observed.nginx.items():
        if nginx.refused is not None:
            yield refused(nginx)
        for refusal in nginx.refusals:
            yield refused_part(name, refusal)
        if nginx.old_workers:
            yield old_workers(name, nginx.loaded)
    for address in observed.dead:
        yield dead(address)
    if cluster is None:
        return
    for member in cluster.members:
        report = reports.get(member)
        serving = report.serving if report else None
        if serving is None or (serving.epoch, serving.generation) != (cluster.epoch, cluster.generation):
            yield unacknowledged(member, cluster)
        if serving is not None:
            yield acknowledged(member, serving)
    for name, state in cluster.services.items():
        key = ServiceKey.parse(name)
        rollout = state.rollout
        if rollout is not None and rollout.phase in ("staging", "replacing", "switching", "soaking", "draining"):
            yield staging(key, rollout)
        if rollout is not None and rollout.phase == "aborted":
            yield aborted(key, rollout)
        for backend in state.backends:
            if backend.server != observed.server:
                continue
            instance = key.instance(backend.slot, backend.replica)
            container = observed.of(instance)
            if backend.role in ("live", "kept") and not _up(observed, container, backend.spec):
                yield down(instance)
    for each in outgoing(cluster, observed):
        yield draining(each.container.id)


def _up(observed: Observed, application: Container | None, spec: str) -> bool:
    """Whether an application runs what is live, and the sidecar whose namespace it is in runs too."""
    if application is None or not application.running or application.labels.spec != spec:
        return False
    owner = application.namespace_of
    return owner is None or any(c.id == owner and c.running for c in observed.containers)
