"""Which containers the prober has to watch: those whose health decides a rollout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired, Health
from reconciler.model.identity import InstanceKey
from reconciler.model.observed import Container, Observed
from reconciler.plan.wanted import Wanted, matches, newcomer, wanted


@dataclass(frozen=True)
class GateTarget:
    """A container behind its health gate. `owner` is the container whose address answers (the sidecar of a pair).

    stays: it has to stay healthy after its gate too: it is looked at for as long as it is a target.
    """

    instance: InstanceKey
    container: Container
    owner: Container
    health: Health
    port: int
    stays: bool = False


def gate_targets(desired: Desired, cluster: ClusterState | None, observed: Observed) -> Mapping[str, GateTarget]:
    """By container id. A container leaves the set when the decision has taken its service on.

    Without a decision that knows this server everything that runs is watched: what does not pass its gate is never taken for live.
    """
    if cluster is None or newcomer(desired, cluster, observed.server):
        return {target.container.id: target for target in _running(desired, observed)}
    found = {}
    for want in wanted(desired, cluster, observed):
        target = _target(want, observed)
        if target is not None:
            found[target.container.id] = target
    return found


def _target(want: Wanted, observed: Observed) -> GateTarget | None:
    if not (want.gated or want.soaking) or want.service is None:
        return None
    application = observed.of(want.instance)
    if application is None or not matches(want, application):
        return None
    owner = observed.of(want.instance, "sidecar") if want.service.spec.sidecar else application
    if owner is None or application.status == "created":
        return None
    health = want.service.spec.health
    stays = want.rollout is not None and want.rollout.in_line
    return GateTarget(want.instance, application, owner, health, health.port or want.service.spec.port, stays)


def _running(desired: Desired, observed: Observed) -> Iterator[GateTarget]:
    for container in observed.containers:
        instance = container.instance
        if instance is None or container.labels.role != "application" or not container.running:
            continue
        service = desired.service_at(instance.service, container.labels.spec)
        owner = observed.of(instance, "sidecar") if container.namespace_of is not None else container
        if service is not None and owner is not None and owner.running:
            health = service.spec.health
            yield GateTarget(instance, container, owner, health, health.port or service.spec.port)
