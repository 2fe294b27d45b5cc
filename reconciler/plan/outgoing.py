"""Instances of this server that have to end, read off its containers: the decision lists only what is live or about to be.

When every member has acknowledged a switch, the decision forgets what was replaced. Each server ends its own part of that, by
counting connections, and tells nobody: a word of it would cost one push for each server and change nothing for the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.model.cluster import Backend, ClusterState, ServiceState
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.lately import lately
from reconciler.model.observed import Container, Observed


@dataclass(frozen=True)
class Outgoing:
    """An instance to be ended. `container` is its application, or what is left of it.

    listed: the decision itself names it as draining, or has given its slot to a new rollout; otherwise it no longer knows it.
    lived: it has had traffic, so that its connections are counted; what never had any goes at once.
    """

    instance: InstanceKey
    container: Container
    state: ServiceState | None
    listed: bool
    lived: bool


@lately
def outgoing(cluster: ClusterState, observed: Observed) -> tuple[Outgoing, ...]:
    """What has to end here, by instance. It says what, not whether this server's nginxes have let go of it yet."""
    return tuple(_outgoing(cluster, observed))


def _outgoing(cluster: ClusterState, observed: Observed) -> Iterator[Outgoing]:
    backends = _backends(cluster, observed.server)
    for instance in sorted({c.instance for c in observed.containers if c.instance is not None}):
        container = observed.of(instance) or observed.of(instance, "sidecar")
        if container is None:
            continue
        state = cluster.services.get(str(instance.service))
        backend = backends.get(instance)
        if backend is None:
            yield Outgoing(instance, container, state, listed=False, lived=_lived(state, container))
        elif _let_go(state, backend) or in_the_way(state, backend, container):
            yield Outgoing(instance, container, state, listed=True, lived=True)


def in_the_way(state: ServiceState | None, backend: Backend, container: Container | None) -> bool:
    """Whether the slot that a rollout is to use still has the instance that an earlier switch left: it drains first."""
    rollout = state.rollout if state is not None else None
    if rollout is None or container is None or backend.role != "staged" or container.labels.rollout == rollout.id:
        return False
    return _lived(state, container)


def _let_go(state: ServiceState | None, backend: Backend) -> bool:
    """Whether the decision lets a draining instance go: the barrier of DESIGN section 6, step 4, is passed."""
    rollout = state.rollout if state is not None else None
    return backend.role == "draining" and (rollout is None or rollout.phase in ("draining", "done", "aborted"))


def _lived(state: ServiceState | None, container: Container) -> bool:
    """Whether its version has had traffic somewhere."""
    if state is None:
        return False
    lives = {live.spec for live in (state.live, state.previous, *state.others) if live is not None}
    if state.rollout is not None and state.rollout.switched_at is not None:
        lives.add(state.rollout.target)
    return container.labels.spec in lives


def _backends(cluster: ClusterState, server: str) -> dict[InstanceKey, Backend]:
    return {
        ServiceKey.parse(name).instance(backend.slot, backend.replica): backend
        for name, state in cluster.services.items()
        for backend in state.backends
        if backend.server == server
    }
