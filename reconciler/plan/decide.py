"""The shared decision: `decide(desired, cluster, reports, elapsed) -> Decision`. Whoever's push wins has decided.

DESIGN section 6. A call makes at most one step per service and gathers all of them into one generation. It is called again until
nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.cluster import SCHEMA, ClusterState, Decider, ServiceState
from reconciler.model.desired import Desired
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Elapsed
from reconciler.model.report import Report
from reconciler.plan.brake import Brake, brake
from reconciler.plan.rebuild import adopt, rebuild, unsettled
from reconciler.plan.rollout import keep, step
from reconciler.plan.step import Context


@dataclass(frozen=True)
class Decision:
    """A cluster state and why it differs from the one given; no reasons means that it does not."""

    cluster: ClusterState
    reasons: tuple[str, ...]


def decide(
    desired: Desired,
    cluster: ClusterState | None,
    reports: Mapping[str, Report],
    elapsed: Elapsed,
    *,
    decider: Decider,
    fresh_epoch: str,
) -> Decision:
    """Make the next shared decision.

    desired: the config at the revision to follow; the caller has checked that it descends from `cluster.config`.
    cluster: the last landed decision; None creates one (`fresh_epoch` is its random identity) from what the reports say runs.
    reports: by server name. elapsed: how long the facts of `plan.facts` have held, on this machine's clock.
    """
    if cluster is None:
        return _create(desired, reports, decider, fresh_epoch)
    reasons: list[str] = []
    members = _members(desired, cluster, reports, reasons)
    moved = cluster.config != desired.revision.sha
    if moved:
        reasons.append(f"config {cluster.config[:7]} -> {desired.revision}")
    held_back = brake(desired, cluster)
    base = cluster.model_copy(update={"members": members})
    joined: dict[str, ServiceState] = {}
    for name in (member for member in members if member not in cluster.members):
        joined |= adopt(desired, base, reports[name], cluster.generation + 1)
        base = base.model_copy(update={"services": {**base.services, **joined}})
    services, bump = _services(desired, base, reports, elapsed, held_back, reasons)
    if held_back.message != cluster.brake:
        reasons.append(f"brake: {held_back.message}" if held_back.message else "brake released")
    if not reasons:
        return Decision(cluster, ())
    decided = base.model_copy(
        update={
            "generation": cluster.generation + (1 if bump or moved or joined else 0),
            "schema_": SCHEMA,  # of the program that writes it, whatever it was read as
            "decided_by": decider,
            "config": desired.revision.sha,
            "brake": held_back.message,
            "services": services,
            "addresses": _addresses(desired, cluster.addresses, services),
        }
    )
    return Decision(decided, tuple(reasons))


def _addresses(desired: Desired, before: Mapping[str, str | None], services: Mapping[str, ServiceState]) -> dict[str, str]:
    """Every server's that backends name. One out of the inventory is reached as `before`, until all has moved."""
    named = {backend.server for state in services.values() for backend in state.backends}
    known = {name: entry.address for name, entry in desired.servers.items()}
    found = {name: known.get(name) or before.get(name) for name in sorted(named)}
    return {name: address for name, address in found.items() if address is not None}


def _create(desired: Desired, reports: Mapping[str, Report], decider: Decider, epoch: str) -> Decision:
    services = rebuild(desired, reports)
    cluster = ClusterState(
        epoch=epoch,
        generation=1,
        decided_by=decider,
        members=_founders(desired, reports, decider),
        config=desired.revision.sha,
        services=services,
        addresses=_addresses(desired, {name: report.address for name, report in reports.items()}, services),
    )
    found = f", adopting {len(services)} running services" if services else ""
    return Decision(cluster, (f"cluster state created by {decider.server} at {desired.revision}{found}",))


def _founders(desired: Desired, reports: Mapping[str, Report], decider: Decider) -> tuple[str, ...]:
    """Who decides, and after a loss everybody who had seen a decision before: they have to acknowledge anew."""
    before = {name for name, report in reports.items() if report.seen is not None and name in desired.servers}
    return tuple(sorted({decider.server, *before}))


def _members(desired: Desired, cluster: ClusterState, reports: Mapping[str, Report], reasons: list[str]) -> tuple[str, ...]:
    """A newcomer that has reported is added; a server removed from the inventory is the operator's word that it is out.

    A report of another epoch, or one whose instances are still behind their gates, does not yet say what runs there.
    """
    known = set(desired.servers)
    kept = [member for member in cluster.members if member in known]
    added = sorted(
        name
        for name, report in reports.items()
        if name in known
        and name not in cluster.members
        and (report.seen is None or report.seen.epoch == cluster.epoch)
        and not unsettled({name: report})
    )
    reasons.extend(f"{name} joins" for name in added)
    reasons.extend(f"{name} removed from the inventory" for name in cluster.members if name not in known)
    members = tuple(sorted({*kept, *added}))
    return members or cluster.members


def _services(
    desired: Desired,
    cluster: ClusterState,
    reports: Mapping[str, Report],
    elapsed: Elapsed,
    held_back: Brake,
    reasons: list[str],
) -> tuple[dict[str, ServiceState], bool]:
    context = Context(desired=desired, cluster=cluster, reports=reports, elapsed=elapsed, generation=cluster.generation + 1)
    names = sorted({*cluster.services, *(str(key) for key in desired.services)})
    services: dict[str, ServiceState] = {}
    bump = False
    for name in names:
        key = ServiceKey.parse(name)
        before = cluster.services.get(name)
        if key in held_back.kept and before is not None:
            outcome = keep(context, key, before, held_back.kept[key])
        else:
            outcome = step(context, key, desired.services.get(key), before)
        if outcome.state is not None:
            services[name] = outcome.state
        bump = bump or outcome.bump
        reasons.extend(f"{name} {reason}" for reason in outcome.reasons)
        was, is_now = before.held if before is not None else None, outcome.state.held if outcome.state is not None else None
        if outcome.state is not None and was != is_now and not outcome.reasons:
            reasons.append(f"{name} " + (f"held: {is_now}" if is_now else "no longer held"))
    return services, bump
