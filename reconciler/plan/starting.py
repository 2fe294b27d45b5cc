"""Whether a rollout has to begin, and which: an ordered ladder, first match wins."""

from __future__ import annotations

from reconciler.model.cluster import Live, Rollout, RolloutStrategy, ServiceState
from reconciler.model.desired import DesiredService
from reconciler.model.identity import ServiceKey
from reconciler.plan import facts, refresh
from reconciler.plan.cause import cause
from reconciler.plan.pins import given
from reconciler.plan.placed import Place, assignment, live_slots, obstacle, outdated, rooted, staged, stranded
from reconciler.plan.recreate import replacing
from reconciler.plan.rolling import next_batch
from reconciler.plan.slots import free_slots, next_attempt, other_versions, version_at
from reconciler.plan.staging import staging
from reconciler.plan.step import Context, Step, abort, held
from reconciler.plan.votes import pinned


def start(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState) -> Step:
    """No rollout is under way: does one have to begin? What the config asks for first, then what a server asks for."""
    settled = _settled(want, state)
    why = None if settled else held_back(context, key, want, state)
    if not settled and why is None:
        waiting = _backing_off(context, key, want, state)
        return Step(held(state, waiting)) if waiting else _begin(context, key, want, state)
    refreshed = refresh.begin(context, key, want, state, why)
    if refreshed is not None:
        return refreshed
    if why is not None:
        return Step(held(state, why))
    return _forgiven(held(state, rooted(want, state, context.desired.servers)))


def held_back(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState) -> str | None:
    """Why what the config asks for is not begun before somebody does something about it; None when it may be."""
    retried = context.retried(key, state.rollout)
    stalled = obstacle(want, state, context.desired.servers)
    if stalled:
        return stalled
    if state.rejected is not None and state.rejected.spec == want.spec.digest and not retried:
        return f"{state.rejected.reason}; commit a change, or run `reconcile retry {key}`"
    return "suspended in the config" if want.suspend else None


def refreshing(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout) -> Step:
    """A refresh before its switch. What the config asks for goes before it, as its instances get what has changed as well."""
    newer = want.spec.digest != rollout.target
    why = held_back(context, key, want, state) if newer else None
    server = (rollout.scope or ("",))[0]
    live = refresh.running(context, key, want, state, rollout.target, server)
    if (newer and why is None) or live is None:
        return abort(state, rollout, f"overtaken by {context.desired.revision}")
    go_on = replacing if rollout.phase == "replacing" else staging
    return go_on(context, key, live, held(state, why), rollout)


def _backing_off(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState) -> str | None:
    rollout = state.rollout
    if rollout is None or rollout.phase != "aborted" or rollout.target != want.spec.digest or context.retried(key, rollout):
        return None
    delay = facts.retry_delay(state.retries)
    if not state.retries or context.elapsed.of(facts.aborted(key, rollout)) >= delay:
        return None
    return f"{rollout.reason}; trying again after {delay:.0f} s"


def _settled(want: DesiredService, state: ServiceState) -> bool:
    """What is live, everywhere, is what is desired, where it is desired."""
    if state.live is None or state.live.spec != want.spec.digest:
        return False
    return not assignment(want, state).moved and not outdated(want, state)


def _forgiven(state: ServiceState) -> Step:
    if state.rejected is None:
        return Step(state)
    return Step(state.model_copy(update={"rejected": None}), reasons=("what is live is desired again",))


def _begin(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState) -> Step:
    """Choose the places and the strategy, and stage."""
    strategy: RolloutStrategy = "rolling" if want.strategy == "rolling" and stranded(want, state) else "toggle"
    recreate = want.strategy == "recreate" and bool(stranded(want, state))
    places = outdated(want, state)
    slots, waiting = free_slots(context, key, state, () if recreate else places)
    if waiting:
        return Step(held(state, waiting))
    batch = next_batch(context, key, want, state) if strategy == "rolling" else ()
    revision, target, live = context.desired.revision, want.spec.digest, _running(state, want.spec.digest)
    # An id names the bytes of a local image only where it is live already.
    here = {server for server, _ in places} <= {server for server, _ in live_slots(state)}
    known = live.image if live is not None and (here or pinned(live.image)) else given(want)
    why = _why(context, key, want, state)
    attempt = next_attempt(state.rollout, revision)
    rollout = Rollout(
        id=f"{revision.short}/{attempt}",
        target=target,
        revision=revision.sha,
        image=known,
        strategy="recreate" if recreate else strategy,
        phase="staging",
        attempt=attempt,
        batch=batch,
        cause=why,
    )
    now = {place: slot for place, slot in slots.items() if not batch or place[0] in batch}
    again = state.rollout is not None and state.rollout.target == target
    begun = state.model_copy(
        update={
            "rollout": rollout,
            "others": other_versions(state, target),
            "backends": (*state.backends, *(staged(place, slot, want) for place, slot in now.items())),
            "rejected": None,
            "held": None,
            "retries": state.retries if again else 0,
        }
    )
    where = f" on {', '.join(batch)}" if batch else ""
    return Step(begun, reasons=(f"staging{where}: {why}",))


def _running(state: ServiceState, target: str) -> Live | None:
    """What is known of the very version where it has the traffic already; a stopped line may have left it on single servers."""
    if state.live is not None and state.live.spec == target:
        return state.live
    return version_at(state, target) if any(b.role == "live" and b.spec == target for b in state.backends) else None


def _why(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState) -> str:
    revision, live = context.desired.revision, state.live
    if live is None or live.spec != want.spec.digest:
        old = context.desired.service_at(key, live.spec) if live is not None else None
        return cause(old, want, revision)
    if assignment(want, state).moved:
        here = ", ".join(sorted({server for server, _ in assignment(want, state).places}))
        return f"placement changed to {here} ({revision})"
    apart: list[Place] = outdated(want, state)
    return f"another version than the live one on {', '.join(sorted({server for server, _ in apart}))} ({revision})"
