"""Actions that end instances: draining ones by counted connections, leftovers at once. Never volumes, never what is not ours."""

from __future__ import annotations

from reconciler.model.action import Action, RemoveInstance, RemoveNetwork, SignalInstance
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired, Drain
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Container, Elapsed, Observed
from reconciler.plan import facts
from reconciler.plan.outgoing import Outgoing, outgoing

QUIET = 10.0
"""Seconds after which an old worker no longer serves a client that has said nothing: client_header_timeout (NGINX.md)."""


def drains(desired: Desired, cluster: ClusterState, observed: Observed, elapsed: Elapsed) -> list[Action]:
    """What to do for each instance here that the decision lets go by name (DESIGN section 4, The switch, rule 5)."""
    return [a for each in outgoing(cluster, observed) if each.listed and (a := _drain(each, desired, observed, elapsed))]


def leftovers(desired: Desired, cluster: ClusterState, observed: Observed, elapsed: Elapsed) -> list[Action]:
    """Instances of ours that the decision does not list: replaced and to be drained, or aborted, half made, from before."""
    actions: list[Action] = []
    for each in outgoing(cluster, observed):
        if each.listed:
            continue
        if each.lived:
            action = _drain(each, desired, observed, elapsed)
            actions.extend([action] if action is not None else [])
            continue
        rollout = each.state.rollout if each.state is not None else None
        why = f"not in the decision (rollout {rollout.id} {rollout.phase}: {rollout.reason})" if rollout else "not in the decision"
        actions.append(_remove(each.instance, observed, 10.0, why))
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


def drained_names(cluster: ClusterState, observed: Observed) -> frozenset[InstanceKey]:
    """Instances here whose connections have to be counted."""
    return frozenset(each.instance for each in outgoing(cluster, observed) if each.lived)


def _drain(each: Outgoing, desired: Desired, observed: Observed, elapsed: Elapsed) -> Action | None:
    instance, application = each.instance, observed.of(each.instance)
    spec = each.container.labels.spec
    service = desired.service_at(instance.service, spec) or desired.services.get(instance.service)
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
