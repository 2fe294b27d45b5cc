"""What a decision is in the middle of, and what it still needs, read off the cluster state."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.observed import Observed
from reconciler.plan.outgoing import outgoing
from reconciler.plan.slots import ends_by_itself

ACTIVE = ("staging", "replacing", "switching", "soaking", "draining")


def under_way(cluster: ClusterState) -> Mapping[str, str]:
    """Rollouts under way, and those that begin as soon as something has ended, by service."""
    found = {}
    for name, state in cluster.services.items():
        rollout = state.rollout
        if rollout is not None and rollout.phase in ACTIVE:
            found[name] = f"{rollout.phase}" + (f": {rollout.reason}" if rollout.reason else "")
        elif state.held is not None and ends_by_itself(state.held):
            found[name] = state.held
    return found


def ending(cluster: ClusterState, observed: Observed) -> Mapping[str, str]:
    """What still drains on this server although its rollout is done, by service."""
    found = {}
    for each in outgoing(cluster, observed):
        if each.lived and not each.listed:
            connections = observed.connections.get(each.container.id)
            words = f", {connections} connections" if connections else ""
            found[str(each.instance.service)] = f"draining: {each.instance.name}{words}"
    return found


def kept_images(desired: Desired, cluster: ClusterState) -> frozenset[str]:
    """Images that clean-up leaves alone although no container uses them: tags and ids."""
    services = (*desired.services.values(), *desired.library.values())
    keep = {service.spec.build.tag for service in services if service.spec.build is not None}
    for state in cluster.services.values():
        images = (state.live, state.previous, state.rollout, *state.others)
        keep |= {each.image for each in images if each is not None and each.image}
    return frozenset(keep)
