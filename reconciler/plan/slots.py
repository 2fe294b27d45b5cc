"""What every rollout needs at its beginning: free slots, an identity of its own, and what else than the live version is around."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.model.cluster import Live, Rollout, ServiceState
from reconciler.model.desired import Revision
from reconciler.model.identity import ServiceKey, Slot
from reconciler.plan import facts
from reconciler.plan.placed import Place, idle_slot
from reconciler.plan.step import Context
from reconciler.plan.votes import unretired

_DRAINS = "the other slot is still draining"
_ROUTED = "old nginx workers of "


def ends_by_itself(held: str | None) -> bool:
    """Whether a service is held by what ends without anybody's doing, and soon."""
    return held is not None and held.startswith((_DRAINS, _ROUTED))


def free_slots(
    context: Context, key: ServiceKey, state: ServiceState, places: Iterable[Place]
) -> tuple[Mapping[Place, Slot], str | None]:
    """The slot to start in at each place; or what has to end before (`ends_by_itself`)."""
    slots = {place: idle_slot(state, place) for place in places}
    free = {place: slot for place, slot in slots.items() if slot is not None}
    if len(free) < len(slots):
        return {}, _DRAINS
    waiting = _routed_to(context, key, state) if slots else ()
    return free, f"{_ROUTED}{', '.join(waiting)} may still reach the other slot" if waiting else None


def next_attempt(rollout: Rollout | None, revision: Revision) -> int:
    """Attempts are counted per config revision, so that a rollout's identity is never used twice."""
    if rollout is None or rollout.id.partition("/")[0] != revision.short:
        return 1
    return rollout.attempt + 1


def other_versions(state: ServiceState, target: str) -> tuple[Live, ...]:
    """What else than the live version and the new one has traffic, as a stopped line leaves it: healing has to know it.

    What went back may still drain, and is known to have had traffic until the next switch.
    """
    rollout = state.rollout
    specs = {b.spec for b in state.backends if b.role == "live"}
    known = {other.spec: other for other in state.others}
    if rollout is not None:
        known[rollout.target] = Live(spec=rollout.target, revision=rollout.revision, image=rollout.image)
        specs |= {rollout.target} if rollout.returned is not None else set()
        specs |= {other.spec for other in state.others} if rollout.switched_at is None or rollout.phase == "done" else set()
    specs -= {target, state.live.spec if state.live is not None else ""}
    return tuple(known[spec] for spec in sorted(specs & known.keys()))


def replaced_versions(state: ServiceState) -> tuple[Live, ...]:
    """What a stopped line had left on some servers, and a switch now replaces: it drains like the version before."""
    return tuple(other for other in state.others if any(backend.spec == other.spec for backend in state.backends))


def version_at(state: ServiceState, spec: str) -> Live | None:
    """What the decision knows of a version that has traffic somewhere: its revision, and its image."""
    rollout = state.rollout
    known = [state.live, *state.others]
    if rollout is not None and rollout.switched_at is not None:
        known.append(Live(spec=rollout.target, revision=rollout.revision, image=rollout.image))
    return next((version for version in known if version is not None and version.spec == spec), None)


def _routed_to(context: Context, key: ServiceKey, state: ServiceState) -> tuple[str, ...]:
    """Members whose old workers may still list as live the slot that the last switch left (DESIGN section 6, step 4)."""
    if state.rollout is None or state.rollout.switched_at is None:
        return ()
    old = unretired(context.cluster, context.reports, state.rollout.switched_at, key, context.elapsed)
    return tuple(member for member in old if not _given_up(context, member))


def _given_up(context: Context, member: str) -> bool:
    """A drained server is waited for up to `ack_timeout`: draining it is how a person lets the others go on without it."""
    entry = context.desired.servers.get(member)
    if entry is None or entry.state != "drained":
        return False
    return context.elapsed.of(facts.unacknowledged(member, context.cluster)) >= context.desired.ack_timeout
