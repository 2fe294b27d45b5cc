"""Wrong rules, to see the invariants bite: each wraps the real decision, plan or report and bends one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.model.cluster import ClusterState, Decider, ServiceState
from reconciler.model.desired import Desired
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.report import InstanceReport, Report
from reconciler.model.site import Site
from reconciler.plan.decide import Decision, decide
from reconciler.plan.nginxes import Intended
from reconciler.plan.reporting import report
from tests.simulation.world import Rules

Reports = Mapping[str, Report]


def _hasty(
    desired: Desired, cluster: ClusterState | None, reports: Reports, elapsed: Elapsed, *, decider: Decider, fresh_epoch: str
) -> Decision:
    """Drain at once, without waiting for any acknowledgement."""
    decision = decide(desired, cluster, reports, elapsed, decider=decider, fresh_epoch=fresh_epoch)

    def at_once(state: ServiceState) -> ServiceState:
        if state.rollout is None or state.rollout.phase != "switching":
            return state
        return state.model_copy(update={"rollout": state.rollout.model_copy(update={"phase": "draining"})})

    services = {name: at_once(state) for name, state in decision.cluster.services.items()}
    return replace(decision, cluster=decision.cluster.model_copy(update={"services": services}))


def _own_word(
    desired: Desired, cluster: ClusterState | None, reports: Reports, elapsed: Elapsed, *, decider: Decider, fresh_epoch: str
) -> Decision:
    """The decider's own acknowledgement stands for everybody's."""
    own = reports[decider.server]
    trusting = {name: r.model_copy(update={"serving": own.serving, "retired": own.retired}) for name, r in reports.items()}
    return decide(desired, cluster, trusting, elapsed, decider=decider, fresh_epoch=fresh_epoch)


def _any_vote(
    desired: Desired, cluster: ClusterState | None, reports: Reports, elapsed: Elapsed, *, decider: Decider, fresh_epoch: str
) -> Decision:
    """A vote counts for whatever rollout is under way in its slot."""

    def relabelled(entry: InstanceReport) -> InstanceReport:
        state = cluster.services.get(entry.service) if cluster is not None else None
        if state is None or state.rollout is None:
            return entry
        return entry.model_copy(update={"rollout": state.rollout.id, "spec": state.rollout.target})

    bent = {
        name: r.model_copy(update={"instances": tuple(relabelled(entry) for entry in r.instances)}) for name, r in reports.items()
    }
    return decide(desired, cluster, bent, elapsed, decider=decider, fresh_epoch=fresh_epoch)


def _eager(
    desired: Desired,
    cluster: ClusterState | None,
    observed: Observed,
    site: Site,
    intended: Mapping[str, Intended],
    previous: Report | None,
    *,
    identity: str,
    program: str,
    elapsed: Elapsed,
) -> Report:
    """Started is as good as healthy."""
    made = report(desired, cluster, observed, site, intended, previous, identity=identity, program=program, elapsed=elapsed)
    entries = (e.model_copy(update={"phase": "ready"}) if e.phase == "starting" else e for e in made.instances)
    return made.model_copy(update={"instances": tuple(entries)})


def _forgetful(
    desired: Desired,
    cluster: ClusterState | None,
    observed: Observed,
    site: Site,
    intended: Mapping[str, Intended],
    previous: Report | None,
    *,
    identity: str,
    program: str,
    elapsed: Elapsed,
) -> Report:
    """Old workers do not count: the slot that they list as live is used again."""
    made = report(desired, cluster, observed, site, intended, previous, identity=identity, program=program, elapsed=elapsed)
    return made.model_copy(update={"retired": made.serving.generation if made.serving is not None else None})


MUTATIONS: Mapping[str, tuple[Rules, int, str]] = {
    "drain without acknowledgements": (Rules(decide=_hasty), 1, "I5"),
    "the own acknowledgement is enough": (Rules(decide=_own_word), 2, "I5"),
    "a vote counts without the rollout's identity": (Rules(decide=_any_vote), 2, "votes"),
    "publish before healthy": (Rules(report=_eager), 1, "I3"),
    "start into a slot that old workers list as live": (Rules(report=_forgetful), 1, "I5"),
}
"""Name -> (rules, number of servers, the invariants that have to notice)."""
