"""A rollout after its switch, and removals: acknowledge, drain, done (DESIGN section 6, steps 3 to 5)."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.model.cluster import Backend, Rollout, ServiceState
from reconciler.model.identity import ServiceKey
from reconciler.plan import facts
from reconciler.plan.placed import beside, stands_behind
from reconciler.plan.step import Context, Step, waits
from reconciler.plan.votes import acknowledged, gone, unretired


def switching(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> Step:
    """Nothing is taken away before every member has acknowledged the switch, or cannot be hurt by it (DESIGN section 6, step 4)."""
    blocking = unacknowledged(context, key, state, rollout)
    if blocking:
        return waits(state, rollout, f"waiting for {', '.join(blocking)} to acknowledge generation {rollout.switched_at}")
    silent = acknowledged(context.cluster, context.reports, rollout.switched_at or 0, key)
    routing = unretired(context.cluster, context.reports, rollout.switched_at or 0, key, context.elapsed)
    old = [member for member in routing if member not in silent and knows_only_the_old(state, rollout, member)]
    if old:
        what = "place" if _leaves(state, rollout) else "port"
        return waits(state, rollout, f"waiting for old nginx workers of {', '.join(old)}, which know only the old {what}")
    why = f"every member serves generation {rollout.switched_at}"
    if silent:
        why = f"{', '.join(silent)} silent for {context.desired.ack_timeout:.0f} s and reaches what is live by fallback"
    if rollout.strategy == "remove" or len(context.cluster.members) == 1:
        gone = rollout.model_copy(update={"phase": "draining", "reason": None})
        return Step(state.model_copy(update={"rollout": gone}), reasons=(f"draining: {why}",))
    return _done(state, rollout, why if silent else None)


def unacknowledged(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> tuple[str, ...]:
    """The members whose acknowledgement of the switch still has to be waited for, by name."""
    silent = acknowledged(context.cluster, context.reports, rollout.switched_at or 0, key)
    excused = _excused(context, key, state, rollout) if silent else frozenset()
    return tuple(member for member in silent if member not in excused)


def knows_only_the_old(state: ServiceState, rollout: Rollout, member: str) -> bool:
    """Whether `member`, with a configuration from before the switch, reaches nothing at some place but what drains."""
    return _leaves(state, rollout) or _apart(state, rollout, member)


def _done(state: ServiceState, rollout: Rollout, why: str | None = None) -> Step:
    """What was replaced is no longer listed: each server ends its own, by counting connections (see `plan.outgoing`)."""
    backends = tuple(b for b in state.backends if b.role != "draining")
    moved = _moves(state, backends)
    state = state.model_copy(update={"backends": backends})
    if rollout.returned is not None:
        aborted = rollout.model_copy(update={"phase": "aborted", "reason": rollout.returned})
        return Step(state.model_copy(update={"rollout": aborted}), bump=moved, reasons=(f"aborted: {rollout.returned}",))
    done = rollout.model_copy(update={"phase": "done", "reason": None})
    words = f"done: {rollout.cause}" + (f"; {why}" if why else "")
    return Step(state.model_copy(update={"rollout": done}), bump=moved, reasons=(words,))


def _excused(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> frozenset[str]:
    """Members that need not be waited for any longer once `ack_timeout` has passed.

    A silent member's configurations are those from its last acknowledged generation on. As nothing is started in a slot that an
    older worker may list (see `starting`), they differ in this one switch: they list the draining slot as live and the other slot
    of the same place, which is live now, as backup. So a toggle in place hurts nobody. A service that leaves a place, or ends, or
    is replaced in its slot, has no such fallback, and one that listens on another port than the version before has none for those
    who reach it by that port: then only a server that the inventory drains is not waited for.
    """
    if context.elapsed.of(facts.staging(key, rollout)) < context.desired.ack_timeout:
        return frozenset()
    in_place = rollout.strategy in ("toggle", "rolling", "refresh")
    servers = context.desired.servers
    return frozenset(
        member
        for member in context.cluster.members
        if (in_place and not knows_only_the_old(state, rollout, member))
        or (member in servers and servers[member].state == "drained")
    )


def draining(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> Step:
    """The barrier is passed. A sole member's rollout ends when its old instances have: it knows that without a push.

    Among several nobody waits for that word. It would cost a push of each server, and what still drains in a slot keeps nobody but
    its own server from starting something there.
    """
    left = _left(context, key, [b for b in state.backends if b.role == "draining"], rollout)
    if not left or len(context.cluster.members) > 1:
        return _done(state, rollout)
    if context.elapsed.of(facts.staging(key, rollout)) < context.desired.ack_timeout:
        return Step(state)
    slow = ", ".join(sorted({b.server for b in left}))
    return waits(state, rollout, f"waiting for {slow} to end the old instance")


def removal(context: Context, key: ServiceKey, state: ServiceState) -> Step:
    """The config no longer has the service: its upstreams go, then its instances. Volumes stay."""
    rollout = state.rollout
    if rollout is not None and rollout.phase == "switching" and not rollout.in_line:
        return switching(context, key, state, rollout)
    if rollout is not None and rollout.strategy == "remove":
        left = _left(context, key, state.backends, rollout)
        # Its ports and addresses go to nobody else while an old worker may still name them.
        if left or unretired(context.cluster, context.reports, rollout.switched_at or 0, key, context.elapsed):
            return Step(state)
        return Step(None, reasons=("removed; its volumes are kept",))
    if rollout is not None and rollout.phase == "draining":
        return draining(context, key, state, rollout)
    backends = tuple(
        b.model_copy(update={"role": "draining", "weight": 0}) for b in state.backends if b.role in ("live", "kept", "draining")
    )
    if not backends:
        return Step(None, reasons=("removed before it was live",))
    revision = context.desired.revision
    why = f"removed by {revision}"
    rollout = Rollout(
        id=f"{revision.short}/remove",
        target="",
        revision=revision.sha,
        strategy="remove",
        phase="switching",
        switched_at=context.generation,
        cause=why,
    )
    new = state.model_copy(update={"rollout": rollout, "live": None, "backends": backends, "held": None, "rejected": None})
    return Step(new, bump=True, reasons=(why,))


def _leaves(state: ServiceState, rollout: Rollout) -> bool:
    """Whether an instance goes from a place that has no other one: the fallback to the other slot finds nobody there."""
    live = {(b.server, b.replica) for b in state.backends if b.role == "live"}
    places = {(b.server, b.replica) for b in state.backends if b.role == "draining"}
    return rollout.strategy != "remove" and not places <= live


def _apart(state: ServiceState, rollout: Rollout, member: str) -> bool:
    """Whether a configuration of `member` from before the switch would not find, behind what drains, what is live now.

    What goes back has been listed with its own ports by whoever listed the new version, so that it is found; but it has none for
    other servers if only the new version was published.
    """
    live = {(b.server, b.replica): b for b in state.backends if b.role == "live"}
    for past in (b for b in state.backends if b.role == "draining" and (b.server, b.replica) in live):
        now = live[past.server, past.replica]
        returned = rollout.returned is not None and past.spec == rollout.target
        if not stands_behind(past, now, member) and (not returned or now.port is None):
            return True
    return False


def _moves(state: ServiceState, backends: Sequence[Backend]) -> bool:
    """Whether the backups of what is live are written otherwise, on its own server at least, once what is gone is forgotten."""
    live = [b for b in backends if b.role == "live"]
    past = ((b, beside(state, b)) for b in live)
    return any(other is not None and other not in backends and not stands_behind(b, other, b.server) for b, other in past)


def _left(context: Context, key: ServiceKey, backends: Sequence[Backend], rollout: Rollout) -> list[Backend]:
    """Those still there. A server out of the inventory is not asked: the operator's word is that no traffic enters there."""
    known = context.desired.servers
    return [b for b in backends if b.server in known and not gone(key, b, rollout, context.cluster, context.reports)]
