"""Recreate over something that is live: one server at a time, in its own slot and port, by decision (DESIGN section 6)."""

from __future__ import annotations

from reconciler.model.cluster import Backend, Live, Rejected, Rollout, ServiceState
from reconciler.model.desired import DesiredService
from reconciler.model.identity import ServiceKey
from reconciler.model.report import InstanceReport
from reconciler.plan.placed import assignment
from reconciler.plan.step import Context, Step, abort, waited_for, waits
from reconciler.plan.votes import Tally, tally


def turns(want: DesiredService, state: ServiceState, rollout: Rollout) -> list[Backend]:
    """The live backends that the rollout concerns, in the order in which they are replaced.

    Those that run the target already are left alone, except the server whose turn it is and a refresh's own.
    """
    places = assignment(want, state).places

    def concerned(backend: Backend) -> bool:
        if backend.role != "live" or (backend.server, backend.replica) not in places:
            return False
        if rollout.scope is not None:
            return backend.server in rollout.scope
        return backend.spec != rollout.target or backend.server == rollout.replacing

    return sorted((b for b in state.backends if concerned(b)), key=lambda b: (b.server, b.replica))


def replacing(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout) -> Step:
    """A server is at its turn."""
    if want.spec.digest != rollout.target and not _undoes(state, rollout, want):
        return abort(state, rollout, f"overtaken by {context.desired.revision}")
    if context.retried(key, rollout):
        return abort(state, rollout, "asked to try again")
    server = rollout.replacing or ""
    if server not in context.desired.servers:
        return abort(state, rollout, f"{server} is out of the inventory")  # nobody carries it out there any more
    if not context.seen(server, rollout.switched_at):
        return waits(state, rollout, f"waiting for {server}, whose turn it is")
    turn = [b for b in turns(want, state, rollout) if b.server == server]
    votes = tally(key, turn, rollout, context.cluster, context.reports)
    if votes.failed:
        return _failed(context, want, state, rollout, votes)
    if not votes.unanimous:
        return waits(state, rollout, waited_for(votes))
    return next_turn(context, want, state, rollout, votes.ready)


def next_turn(
    context: Context, want: DesiredService, state: ServiceState, rollout: Rollout, ready: tuple[tuple[Backend, InstanceReport], ...]
) -> Step:
    """The next server in order, or the end."""
    if _goes_back(state, rollout):
        return _back(state, rollout, ready)
    servers = sorted({b.server for b in turns(want, state, rollout)})
    left = [server for server in servers if rollout.replacing is None or server > rollout.replacing]
    if not left:
        return _done(context, want, state, rollout, ready)
    server = left[0]
    now = {"spec": rollout.target, "container_port": want.spec.port}
    backends = tuple(b.model_copy(update=now) if b.role == "live" and b.server == server else b for b in state.backends)
    turn = rollout.model_copy(update={"phase": "replacing", "replacing": server, "switched_at": context.generation, "reason": None})
    new = state.model_copy(update={"rollout": turn, "backends": backends})
    return Step(new, bump=True, reasons=(f"replacing on {server}: {rollout.cause}",))


def _goes_back(state: ServiceState, rollout: Rollout) -> bool:
    """Whether the rollout puts the live version back where the rejected one had taken its place."""
    live, rejected = state.live, state.rejected
    if rollout.scope or live is None or rejected is None:
        return False
    return rollout.target == live.spec and rejected.spec != live.spec


def _undoes(state: ServiceState, rollout: Rollout, want: DesiredService) -> bool:
    return _goes_back(state, rollout) and state.rejected is not None and want.spec.digest == state.rejected.spec


def _back(state: ServiceState, rollout: Rollout, ready: tuple[tuple[Backend, InstanceReport], ...]) -> Step:
    why = state.rejected.reason if state.rejected is not None else None
    ended = rollout.model_copy(update={"phase": "aborted", "replacing": None, "reason": why})
    took = max((entry.after_s or 0.0 for _, entry in ready), default=0.0)
    new = state.model_copy(update={"rollout": ended, "backends": _with_ports(state, ready)})
    return Step(new, bump=True, reasons=(f"the old image is back on {rollout.replacing}, healthy after {took:.1f} s",))


def _with_ports(state: ServiceState, ready: tuple[tuple[Backend, InstanceReport], ...]) -> tuple[Backend, ...]:
    ports = {(b.server, b.replica): entry.port for b, entry in ready}
    return tuple(
        b.model_copy(update={"port": ports[b.server, b.replica]}) if (b.server, b.replica) in ports and b.role == "live" else b
        for b in state.backends
    )


def _done(
    context: Context, want: DesiredService, state: ServiceState, rollout: Rollout, ready: tuple[tuple[Backend, InstanceReport], ...]
) -> Step:
    backends = _with_ports(state, ready)
    slots = ", ".join(f"{b.server} {b.slot}" for b in backends if b.role == "live" and b.spec == rollout.target)
    took = max((entry.after_s or 0.0 for _, entry in ready), default=0.0)
    new = state.model_copy(
        update={
            "rollout": rollout.model_copy(update={"phase": "done", "replacing": None, "reason": None}),
            "live": state.live if rollout.scope else Live(spec=rollout.target, revision=rollout.revision, image=rollout.image),
            "previous": state.previous if rollout.scope or state.live is None or state.live.spec == rollout.target else state.live,
            "backends": backends,
            "container_port": state.container_port if rollout.scope else want.spec.port,
            "retries": 0,
            "rejected": state.rejected if rollout.scope else None,
            "held": state.held if rollout.scope else None,
        }
    )
    return Step(new, bump=True, reasons=(f"live on {slots}, healthy after {took:.1f} s: {rollout.cause}",))


def _failed(context: Context, want: DesiredService, state: ServiceState, rollout: Rollout, votes: Tally) -> Step:
    """It goes back by itself only if it was never healthy and `rollback: image` is set: the data may have been upgraded."""
    entry = votes.failed[0][1]
    why = f"{rollout.replacing}: {entry.reason or 'health check failed'}"
    if _goes_back(state, rollout):
        return waits(
            state, rollout, f"Stalled: the old image does not become healthy either: {why}. Commit a fix, or restore its data"
        )
    live = state.live
    if want.rollback_image and live is not None and live.spec != rollout.target and entry.after_s is None:
        then = {"spec": live.spec, "container_port": None}
        backends = tuple(
            b.model_copy(update=then) if b.role == "live" and b.server == rollout.replacing else b for b in state.backends
        )
        back = rollout.model_copy(
            update={
                "id": f"{rollout.id.partition('/')[0]}/{rollout.attempt + 1}",
                "attempt": rollout.attempt + 1,
                "target": live.spec,
                "revision": live.revision,
                "image": live.image,
                "switched_at": context.generation,
                "reason": None,
                "cause": f"back to the old image: {why}",
            }
        )
        rejected = Rejected(spec=rollout.target, revision=rollout.revision, reason=why, log=entry.log)
        new = state.model_copy(update={"rollout": back, "backends": backends, "rejected": rejected})
        return Step(new, bump=True, reasons=(f"aborted, back to the old image: {why}",))
    return waits(
        state,
        rollout,
        f"Stalled: {why}. Its data may have been changed: commit a fix or a revert, or set `rollout: {{rollback: image}}`",
    )
