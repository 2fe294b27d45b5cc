"""A rollout before its switch: votes, deadlines, what overtakes it; and the switch itself (DESIGN section 6, steps 1 and 2)."""

from __future__ import annotations

from reconciler.model.cluster import Backend, Live, Rejected, Rollout, ServiceState
from reconciler.model.desired import DesiredService
from reconciler.model.identity import ServiceKey
from reconciler.plan import facts
from reconciler.plan.pins import agreed, differ, found, pin
from reconciler.plan.placed import assignment, obstacle, outdated
from reconciler.plan.recreate import next_turn, turns
from reconciler.plan.slots import replaced_versions
from reconciler.plan.step import ATTEMPTS, SIDECAR_CAUSE, Context, Step, abort, waited_for, waits
from reconciler.plan.votes import Tally, tally


def staging(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout) -> Step:
    """The ladder of a rollout whose new instances have no traffic yet."""
    overtaken = _overtaken(context, want, state, rollout)
    if overtaken is not None:
        return abort(state, rollout, overtaken)
    over_live = rollout.strategy == "recreate"
    candidates = turns(want, state, rollout) if over_live else [b for b in state.backends if b.role == "staged"]
    votes = tally(key, candidates, rollout, context.cluster, context.reports)
    if votes.failed:
        return _failed(state, rollout, votes)
    image = found(key, want, rollout, candidates, context.cluster, context.reports) if differ(votes) else None
    if image is not None:
        return pin(want, state, rollout, image)
    deadline = want.progress_deadline
    if not votes.unanimous and context.elapsed.of(facts.staging(key, rollout)) > deadline:
        waiting = ", ".join(sorted({backend.server for backend, _ in votes.waiting}))
        return _late(state, rollout, f"not ready on {waiting} after {deadline:.0f} s", votes)
    if not votes.unanimous:
        return waits(state, rollout, waited_for(votes))
    rollout = rollout.model_copy(update={"image": agreed(want, rollout, votes.ready), "reason": None})
    if over_live:
        return next_turn(context, want, state, rollout, ())
    return _switch(context, want, state, rollout, votes)


def _late(state: ServiceState, rollout: Rollout, why: str, votes: Tally) -> Step:
    """Another attempt; but what a fresh sidecar refuses too does not get better by making it again and again."""
    if not rollout.cause.startswith(SIDECAR_CAUSE):
        return abort(state, rollout, why, again=True)
    said = waited_for(votes)
    return _rejected(state, rollout, why + (f", {said}" if said else ""), ())


def _overtaken(context: Context, want: DesiredService, state: ServiceState, rollout: Rollout) -> str | None:
    """Why a rollout that has not switched should not go on."""
    stalled = obstacle(want, state, context.desired.servers)
    if stalled:
        return stalled
    if want.suspend:
        return "suspended in the config"
    if want.spec.digest != rollout.target:
        return f"overtaken by {context.desired.revision}"
    gone = sorted({*(rollout.scope or ())} - set(context.desired.servers))
    if gone:
        return f"{', '.join(gone)} is out of the inventory"
    if rollout.strategy == "recreate" or rollout.scope is not None:
        return None
    staged = sorted((b.server, b.replica) for b in state.backends if b.role == "staged")
    return None if staged == outdated(want, state) else "the placement changed"


def _switch(context: Context, want: DesiredService, state: ServiceState, rollout: Rollout, votes: Tally) -> Step:
    """All ready: the staged ones go live, and what they replace drains."""
    arrived = {(b.server, b.replica) for b, _ in votes.ready}
    ports = {(b.server, b.replica, b.slot): entry.port for b, entry in votes.ready}
    places = assignment(want, state).places if rollout.scope is None else None

    def after(backend: Backend) -> Backend:
        place = (backend.server, backend.replica)
        if backend.role == "staged":
            port = ports.get((*place, backend.slot))
            return backend.model_copy(update={"role": "live", "weight": 100, "port": port})
        leaves = places is not None and place not in places
        if backend.role == "live" and (place in arrived or leaves):
            return backend.model_copy(update={"role": "draining", "weight": 0})
        return backend

    switched = rollout.model_copy(update={"phase": "switching", "switched_at": context.generation})
    slots = ", ".join(sorted(f"{b.server} {b.slot}" for b, _ in votes.ready)) or "fewer places"
    took = max((entry.after_s or 0.0 for _, entry in votes.ready), default=0.0)
    new = state.model_copy(
        update={
            "rollout": switched,
            "live": state.live if rollout.scope else Live(spec=rollout.target, revision=rollout.revision, image=rollout.image),
            "others": replaced_versions(state) if rollout.scope is None else state.others,
            "previous": state.previous if rollout.scope or state.live is None or state.live.spec == rollout.target else state.live,
            "backends": tuple(after(b) for b in state.backends),
            "container_port": state.container_port if rollout.scope else want.spec.port,
            "retries": 0,
            "rejected": state.rejected if rollout.scope else None,
            "held": state.held if rollout.scope else None,
        }
    )
    return Step(new, bump=True, reasons=(f"live on {slots}, healthy after {took:.1f} s: {rollout.cause}",))


def _failed(state: ServiceState, rollout: Rollout, votes: Tally) -> Step:
    backend, entry = next((pair for pair in votes.failed if not pair[1].transient), votes.failed[0])
    why = f"{backend.server}: {entry.reason or 'health check failed'}"
    if entry.transient and state.retries + 1 < ATTEMPTS:
        return abort(state, rollout, why, again=True)
    return _rejected(state, rollout, why, entry.log)


def _rejected(state: ServiceState, rollout: Rollout, why: str, log: tuple[str, ...]) -> Step:
    """Not tried again until the config changes or somebody asks; a refresh beside a version that was refused is tried again."""
    if rollout.scope and state.rejected is not None:
        return abort(state, rollout, why, again=True)
    stopped = abort(state, rollout, why)
    rejected = Rejected(spec=rollout.target, revision=rollout.revision, reason=why, log=log)
    assert stopped.state is not None
    return Step(stopped.state.model_copy(update={"rejected": rejected}), reasons=stopped.reasons)
