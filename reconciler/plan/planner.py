"""What this server does now: `plan(desired, cluster, observed, elapsed) -> actions`, in the order in which they are carried out.

Live instances are restored first, then staged ones are started, then nginx follows, and only then is anything taken away.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from reconciler.errors import Stalled
from reconciler.model.action import Action, PrepareImage
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.site import Site
from reconciler.plan import ending, facts, nginxes
from reconciler.plan.allocations import Allocations, Here
from reconciler.plan.instances import bring_about, image_action
from reconciler.plan.nginxes import Intended, serves
from reconciler.plan.wanted import preparing, wanted


def plan(
    desired: Desired,
    cluster: ClusterState,
    observed: Observed,
    elapsed: Elapsed,
    site: Site,
    intended: Mapping[str, Intended],
) -> tuple[Action, ...]:
    """The actions of one pass. A converged server plans nothing (I7).

    intended: what each nginx should have loaded (`nginxes.configs`, with the fingerprints that `render` gave).
    """
    if site.server not in cluster.members and site.server in desired.servers:
        return ()  # a newcomer renders and starts nothing before it sees itself in the decision
    if site.server not in cluster.members:
        # Out of the inventory: what the decision has let go ends here, its nginxes stay as they are.
        return (*ending.drains(desired, cluster, observed, elapsed), *ending.leftovers(desired, cluster, observed, elapsed))
    here = Here(desired, cluster, observed, elapsed, site, Allocations(networks=dict(observed.networks)))
    actions: list[Action] = []
    for want in wanted(desired, cluster, observed):
        try:
            actions.extend(bring_about(here, want))
        except Stalled:
            continue  # said by `stalls`; the others go on
    for key, state, reference, build in preparing(desired, cluster, observed.server):
        if state.rollout is not None:
            attempt = facts.attempt(key, state.rollout)
            actions.extend(image_action(here, reference, build, state.rollout.cause, attempt) or ())
    with suppress(Stalled):  # a pool without free subnets: the services that need one say so
        actions.extend(nginxes.nginx_containers(desired, cluster, observed, site, here.allocations.networks))
    actions.extend(nginxes.reload(intended, observed, elapsed))
    actions.extend(ending.drains(desired, cluster, observed, elapsed))
    if serves(intended, observed):
        # What the decision does not list may still be in a configuration from before it: after a rebuild, or after a restart.
        actions.extend(ending.leftovers(desired, cluster, observed, elapsed))
    actions.extend(ending.unused_networks(cluster, observed))
    return _once(actions)


def stalls(
    desired: Desired, cluster: ClusterState, observed: Observed, elapsed: Elapsed, site: Site
) -> Mapping[str, tuple[str, bool]]:
    """Why a wanted instance cannot even be planned, such as a network without free addresses: for `Observed.start_errors`.

    What stands in the way goes away without a commit, so that the instance waits and has not failed.
    """
    here = Here(desired, cluster, observed, elapsed, site, Allocations(networks=dict(observed.networks)))
    found = {}
    for want in wanted(desired, cluster, observed):
        try:
            bring_about(here, want)
        except Stalled as error:
            found[want.instance.name] = (str(error), True)
    return found


def _once(actions: list[Action]) -> tuple[Action, ...]:
    """Two services that share an image prepare it once."""
    asked = set()
    kept: list[Action] = []
    for action in actions:
        if isinstance(action, PrepareImage):
            if action.reference in asked:
                continue
            asked.add(action.reference)
        kept.append(action)
    return tuple(kept)
