"""The end of a rolling rollout before its end: what was switched goes back to what was kept, or stays (docs/decisions/0005)."""

from __future__ import annotations

from reconciler.model.cluster import Backend, Rollout, ServiceState
from reconciler.model.identity import ServiceKey
from reconciler.plan.health import entry_of
from reconciler.plan.placed import Place
from reconciler.plan.step import Context, Step, abort


def stop(
    context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout, why: str, *, back: frozenset[str] | None
) -> Step:
    """End the line before its end. `back`: the servers that go back to what they kept; None for all that were switched.

    Where the old instance does not run and the new one is healthy, the new one stays.
    """
    retries, rejected = state.retries, state.rejected
    kept = {(b.server, b.replica) for b in state.backends if b.role == "kept"}
    broken = {place for place in kept if not _runs(context, key, state, place, rollout)}
    switched = [b for b in state.backends if b.role == "live" and b.spec == rollout.target and b.server in rollout.switched]
    going = {(b.server, b.replica) for b in switched if back is None or b.server in back}
    returning = (going & kept) - broken
    remain = [b for b in state.backends if b.role == "live" and b.server in context.desired.servers]
    stay = {(b.server, b.replica) for b in remain if (b.server, b.replica) not in going or (b.server, b.replica) in kept}
    leaving = going - kept if stay else set()

    def after(backend: Backend) -> Backend:
        place = (backend.server, backend.replica)
        if backend.role == "kept" and place in returning:
            return backend.model_copy(update={"role": "live", "weight": 100})
        ends = backend.role == "kept" or (backend.role == "live" and place in returning | leaving)
        return backend.model_copy(update={"role": "draining", "weight": 0}) if ends else backend

    backends = tuple(after(b) for b in state.backends if b.role != "staged")
    if all(b.role == "live" for b in backends):
        stopped = abort(state.model_copy(update={"backends": backends}), rollout, why)
        assert stopped.state is not None
        return Step(stopped.state.model_copy(update={"retries": retries, "rejected": rejected}), reasons=stopped.reasons)
    ended = rollout.model_copy(
        update={"phase": "switching", "batch": (), "switched_at": context.generation, "returned": why, "reason": why}
    )
    new = state.model_copy(update={"rollout": ended, "backends": backends})
    where = ", ".join(sorted({server for server, _ in returning | leaving}))
    return Step(new, bump=True, reasons=(f"stopped, taken back on {where}: {why}" if where else f"stopped: {why}",))


def _runs(context: Context, key: ServiceKey, state: ServiceState, place: Place, rollout: Rollout) -> bool:
    """Whether a place is better off with its old instance: that one runs, or the new one is not healthy either."""
    here = [b for b in state.backends if (b.server, b.replica) == place]
    old = next((entry_of(context, key, b, rollout) for b in here if b.role == "kept"), None)
    new = next((entry_of(context, key, b, rollout) for b in here if b.role == "live"), None)
    return old is None or old.phase == "kept" or new is None or new.phase != "live"
