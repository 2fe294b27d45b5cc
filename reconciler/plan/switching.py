"""A rollout after its switch, and removals: acknowledge, drain, done (DESIGN section 6, steps 3 to 5)."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.model.cluster import Backend, Rollout, ServiceState
from reconciler.model.identity import ServiceKey
from reconciler.plan import facts
from reconciler.plan.step import Context, Step, waits
from reconciler.plan.votes import acknowledged, gone, unretired


def switching(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> Step:
    """Nothing is taken away before every member has acknowledged the switch, or cannot be hurt by it (DESIGN section 6, step 4)."""
    blocking = unacknowledged(context, key, state, rollout)
    if blocking:
        return waits(state, rollout, f"waiting for {', '.join(blocking)} to acknowledge generation {rollout.switched_at}")
    silent = acknowledged(context.cluster, context.reports, rollout.switched_at or 0, key)
    if silent:
        return _drains(
            state,
            rollout,
            f"{', '.join(silent)} silent for {context.desired.ack_timeout:.0f} s and reaches what is live by fallback",
        )
    old = unretired(context.cluster, context.reports, rollout.switched_at or 0, key) if _leaves(state, rollout) else ()
    if old:
        return waits(state, rollout, f"waiting for old nginx workers of {', '.join(old)}, which know only the old place")
    if not any(b.role == "draining" for b in state.backends):
        return _done(state, rollout)
    return _drains(state, rollout, f"every member serves generation {rollout.switched_at}")


def unacknowledged(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> tuple[str, ...]:
    """The members whose acknowledgement of the switch still has to be waited for, by name."""
    silent = acknowledged(context.cluster, context.reports, rollout.switched_at or 0, key)
    excused = _excused(context, key, state, rollout) if silent else frozenset()
    return tuple(member for member in silent if member not in excused)


def _done(state: ServiceState, rollout: Rollout) -> Step:
    if rollout.returned is not None:
        aborted = rollout.model_copy(update={"phase": "aborted", "reason": rollout.returned})
        return Step(state.model_copy(update={"rollout": aborted}), reasons=(f"aborted: {rollout.returned}",))
    done = rollout.model_copy(update={"phase": "done", "reason": None})
    return Step(state.model_copy(update={"rollout": done}), reasons=(f"done: {rollout.cause}",))


def _drains(state: ServiceState, rollout: Rollout, why: str) -> Step:
    draining = rollout.model_copy(update={"phase": "draining", "reason": None})
    return Step(state.model_copy(update={"rollout": draining}), reasons=(f"draining: {why}",))


def _excused(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> frozenset[str]:
    """Members that need not be waited for any longer once `ack_timeout` has passed.

    A silent member's configurations are those from its last acknowledged generation on. As nothing is started in a slot that an
    older worker may list (see `starting`), they differ in this one switch: they list the draining slot as live and the other slot
    of the same place, which is live now, as backup. So a toggle in place hurts nobody. A service that leaves a place, or ends, or
    is replaced in its slot has no such fallback: then only a server that the inventory drains is not waited for.
    """
    if context.elapsed.of(facts.staging(key, rollout)) < context.desired.ack_timeout:
        return frozenset()
    in_place = rollout.strategy in ("toggle", "rolling", "refresh") and not _leaves(state, rollout)
    servers = context.desired.servers
    return frozenset(
        member for member in context.cluster.members if in_place or (member in servers and servers[member].state == "drained")
    )


def draining(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> Step:
    """Backends leave the decision when their servers say that the instances are gone."""
    old = [b for b in state.backends if b.role == "draining"]
    left = _left(context, key, old, rollout)
    backends = tuple(b for b in state.backends if b.role != "draining" or b in left)
    if left:
        went = ", ".join(sorted(f"{b.server} {b.slot}" for b in old if b not in left))
        if went:
            return Step(state.model_copy(update={"backends": backends}), reasons=(f"drained: {went}",))
        if context.elapsed.of(facts.staging(key, rollout)) < context.desired.ack_timeout:
            return Step(state)
        slow = ", ".join(sorted({b.server for b in left}))
        return waits(state, rollout, f"waiting for {slow} to end the old instance")
    return _done(state.model_copy(update={"backends": backends}), rollout)


def removal(context: Context, key: ServiceKey, state: ServiceState) -> Step:
    """The config no longer has the service: its upstreams go, then its instances. Volumes stay."""
    rollout = state.rollout
    if rollout is not None and rollout.phase == "switching" and not rollout.in_line:
        return switching(context, key, state, rollout)
    if rollout is not None and rollout.strategy == "remove":
        left = _left(context, key, state.backends, rollout)
        # Its ports and addresses go to nobody else while an old worker may still name them.
        if left or unretired(context.cluster, context.reports, rollout.switched_at or 0, key):
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


def _left(context: Context, key: ServiceKey, backends: Sequence[Backend], rollout: Rollout) -> list[Backend]:
    """Those still there. A server out of the inventory is not asked: the operator's word is that no traffic enters there."""
    known = context.desired.servers
    return [b for b in backends if b.server in known and not gone(key, b, rollout, context.cluster, context.reports)]
