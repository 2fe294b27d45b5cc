"""Actions that end instances: draining ones by counted connections, leftovers at once. Never volumes, never what is not ours."""

from __future__ import annotations

from reconciler.model.action import Action, RemoveInstance, RemoveNetwork, SignalInstance
from reconciler.model.cluster import ClusterState, Rollout
from reconciler.model.desired import Desired, DesiredService, Drain
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Container, Elapsed, Observed
from reconciler.plan import facts

QUIET = 10.0
"""Seconds after which an old worker no longer serves a client that has said nothing: client_header_timeout (NGINX.md)."""


def drains(desired: Desired, cluster: ClusterState, observed: Observed, elapsed: Elapsed) -> list[Action]:
    """What to do for each draining instance of this server (DESIGN section 4, The switch, rule 5)."""
    actions: list[Action] = []
    for name, state in sorted(cluster.services.items()):
        key = ServiceKey.parse(name)
        for backend in state.backends:
            if backend.server != observed.server or backend.role != "draining":
                continue
            instance = key.instance(backend.slot, backend.replica)
            service = desired.service_at(key, backend.spec) or desired.services.get(key)
            action = _drain(instance, service, state.rollout, observed, elapsed)
            if action is not None:
                actions.append(action)
    return actions


def leftovers(cluster: ClusterState, observed: Observed) -> list[Action]:
    """Instances of ours that the decision does not list: aborted, half made, or from before."""
    listed = {
        ServiceKey.parse(name).instance(backend.slot, backend.replica)
        for name, state in cluster.services.items()
        for backend in state.backends
        if backend.server == observed.server
    }
    found = {c.instance for c in observed.containers if c.instance is not None and c.instance not in listed}
    actions: list[Action] = []
    for instance in sorted(found):
        state = cluster.services.get(str(instance.service))
        rollout = state.rollout if state is not None else None
        why = f"not in the decision (rollout {rollout.id} {rollout.phase}: {rollout.reason})" if rollout else "not in the decision"
        actions.append(_remove(instance, observed, 10.0, why))
    return actions


def unused_networks(cluster: ClusterState, observed: Observed) -> list[Action]:
    """Project networks of ours whose last service is gone."""
    needed = {ServiceKey.parse(name).network for name in cluster.services}
    needed |= {c.labels.service.network for c in observed.containers if c.labels.service is not None}
    unused = sorted(observed.own_networks - needed)
    return [
        RemoveNetwork(
            name=name,
            leaving=tuple(c.id for c in observed.containers if name in c.networks),
            cause="nothing of the project is left",
        )
        for name in unused
    ]


def drained_names(cluster: ClusterState, server: str) -> frozenset[InstanceKey]:
    """Draining instances of a server, whose connections have to be counted."""
    return frozenset(
        ServiceKey.parse(name).instance(b.slot, b.replica)
        for name, state in cluster.services.items()
        for b in state.backends
        if b.server == server and b.role == "draining"
    )


def _drain(
    instance: InstanceKey, service: DesiredService | None, rollout: Rollout | None, observed: Observed, elapsed: Elapsed
) -> Action | None:
    application = observed.of(instance)
    any_container = application or observed.of(instance, "sidecar")
    if any_container is None or not facts.may_drain(rollout):
        return None
    drain = service.drain if service is not None else Drain()
    if application is None or application.status not in ("running", "paused", "restarting"):
        return _remove(instance, observed, drain.grace, "drained: its process has ended")
    waited = elapsed.of(facts.draining(application.id))
    connections = observed.connections.get(application.id)
    old_workers = facts.routing_workers(observed, elapsed)
    if connections == 0 and (old_workers == 0 or waited >= QUIET):
        return _remove(instance, observed, drain.grace, f"drained: no connection left after {waited:.1f} s")
    if waited >= drain.timeout:
        return _remove(
            instance, observed, drain.grace, f"drain.timeout of {drain.timeout:.0f} s passed with {connections} connections"
        )
    if drain.websockets == "cut" and waited >= QUIET:
        return _remove(instance, observed, drain.grace, f"drain.websockets is cut; {connections} connections")
    told = elapsed.seconds.get(facts.signalled(application.id)) is not None
    if drain.websockets == "signal" and waited >= QUIET and not told:
        signal = service.spec.stop_signal if service is not None else None
        why = f"still {connections} connections after {waited:.0f} s: telling the application to finish"
        return SignalInstance(instance=instance, id=application.id, signal=signal, cause=why)
    return None


def _remove(instance: InstanceKey, observed: Observed, grace: float, cause: str) -> RemoveInstance:
    found: list[Container] = [c for c in observed.containers if c.instance == instance]
    ordered = sorted(found, key=lambda c: c.labels.role != "application")
    return RemoveInstance(
        name=instance.name,
        ids=tuple(c.id for c in ordered),
        names=tuple(c.name for c in ordered),
        nginx=instance.sidecar,
        grace=grace,
        cause=cause,
    )
