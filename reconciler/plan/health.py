"""What the servers say of the health of a service's live instances, for rollouts that look at it after the switch."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.cluster import Backend, Rollout, ServiceState
from reconciler.model.identity import ServiceKey
from reconciler.model.report import InstanceReport
from reconciler.plan.step import Context


def unavailable(context: Context, key: ServiceKey, state: ServiceState) -> Mapping[str, str]:
    """Servers of the inventory where not every live instance is known to be healthy, and why."""
    rollout = state.rollout if state.rollout is not None and state.rollout.in_line else None
    found = {}
    for backend in sorted(state.backends, key=lambda b: (b.server, b.replica)):
        if backend.role != "live" or backend.server not in context.desired.servers or backend.server in found:
            continue
        entry = entry_of(context, key, backend, rollout)
        if entry is None:
            found[backend.server] = "it says nothing"
        elif entry.phase != "live":
            found[backend.server] = entry.reason or entry.phase
    return found


def entry_of(context: Context, key: ServiceKey, backend: Backend, rollout: Rollout | None) -> InstanceReport | None:
    """What a server says of an instance, in knowledge of the last switch of the line."""
    report = context.reports.get(backend.server)
    if report is None or not context.seen(backend.server, rollout.switched_at if rollout is not None else None):
        return None
    return next((e for e in report.at(str(key), backend.replica, backend.slot) if e.spec == backend.spec), None)


def listed(found: Mapping[str, str]) -> str:
    """`server: why; server: why`, for a text."""
    return "; ".join(f"{server}: {why}" for server, why in sorted(found.items()))
