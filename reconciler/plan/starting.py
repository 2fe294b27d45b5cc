"""Whether a rollout has to begin, and which: an ordered ladder, first match wins."""

from __future__ import annotations

from reconciler.model.cluster import Live, Rollout, RolloutStrategy, ServiceState
from reconciler.model.desired import DesiredService, Revision
from reconciler.model.identity import ServiceKey
from reconciler.plan import facts
from reconciler.plan.cause import cause
from reconciler.plan.pins import given
from reconciler.plan.placed import Place, assignment, idle_slot, live_slots, obstacle, outdated, rooted, staged, stranded
from reconciler.plan.rolling import next_batch
from reconciler.plan.step import SIDECAR_CAUSE, SIDECAR_STUCK, Context, Step, held
from reconciler.plan.votes import pinned, unretired

_DRAINS = "the other slot is still draining"
_ROUTED = "old nginx workers of "


def ends_by_itself(held: str | None) -> bool:
    """Whether a service is held by what ends without anybody's doing, and soon."""
    return held is not None and held.startswith((_DRAINS, _ROUTED))


def start(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState) -> Step:
    """No rollout is under way: does one have to begin?"""
    rollout, target = state.rollout, want.spec.digest
    retried = context.retried(key, rollout)
    refresh = _refresh(context, key, state)
    servers = context.desired.servers
    if _settled(want, state) and not refresh:
        return _forgiven(held(state, rooted(want, state, servers)))
    stalled = obstacle(want, state, servers)
    if stalled:
        return Step(held(state, stalled))
    if state.rejected is not None and state.rejected.spec == target and not retried:
        return Step(held(state, f"{state.rejected.reason}; commit a change, or run `reconcile retry {key}`"))
    if want.suspend:
        return Step(held(state, "suspended in the config"))
    if rollout is not None and rollout.phase == "aborted" and rollout.target == target and state.retries and not retried:
        delay = facts.retry_delay(state.retries)
        if context.elapsed.of(facts.aborted(key, rollout)) < delay:
            return Step(held(state, f"{rollout.reason}; trying again after {delay:.0f} s"))
    return _begin(context, key, want, state, refresh)


def _settled(want: DesiredService, state: ServiceState) -> bool:
    """What is live, everywhere, is what is desired, where it is desired."""
    if state.live is None or state.live.spec != want.spec.digest:
        return False
    return not assignment(want, state).moved and not outdated(want, state)


def _forgiven(state: ServiceState) -> Step:
    if state.rejected is None:
        return Step(state)
    return Step(state.model_copy(update={"rejected": None}), reasons=("what is live is desired again",))


def _begin(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, refresh: tuple[str, ...]) -> Step:
    """Choose the places and the strategy, and stage."""
    scope: tuple[str, ...] | None = None
    strategy: RolloutStrategy = "rolling" if want.strategy == "rolling" and stranded(want, state) else "toggle"
    recreate = want.strategy == "recreate" and bool(stranded(want, state))
    places = outdated(want, state)
    if _settled(want, state):
        # What runs is the live spec of the live revision; only one server's own part of it changed.
        strategy, scope = "refresh", refresh[:1]
        recreate = want.strategy == "recreate"
        places = sorted(p for p in live_slots(state) if p[0] in scope)
    slots = {} if recreate else {place: idle_slot(state, place) for place in places}
    if any(slot is None for slot in slots.values()):
        return Step(held(state, _DRAINS))
    waiting = _routed_to(context, key, state) if slots else ()
    if waiting:
        return Step(held(state, f"{_ROUTED}{', '.join(waiting)} may still reach the other slot"))
    batch = next_batch(context, key, want, state) if strategy == "rolling" else ()
    revision, target = context.desired.revision, want.spec.digest
    same = state.live is not None and state.live.spec == target
    known = state.live.image if state.live is not None else None
    why = _why(context, key, want, state, scope)
    attempt = _attempt(state.rollout, revision)
    rollout = Rollout(
        id=f"{revision.short}/{attempt}",
        target=target,
        revision=state.live.revision if state.live is not None and scope is not None else revision.sha,
        image=known if same and (pinned(known) or {s for s, _ in places} <= {s for s, _ in live_slots(state)}) else given(want),
        strategy="recreate" if recreate else strategy,
        phase="staging",
        attempt=attempt,
        scope=scope,
        batch=batch,
        cause=why,
    )
    now = {place: slot for place, slot in slots.items() if slot is not None and (not batch or place[0] in batch)}
    again = state.rollout is not None and state.rollout.target == target
    begun = state.model_copy(
        update={
            "rollout": rollout,
            "others": _others(state, target),
            "backends": (*state.backends, *(staged(place, slot, want) for place, slot in now.items())),
            "rejected": None,
            "held": None,
            "retries": state.retries if again else 0,
        }
    )
    where = f" on {', '.join(batch)}" if batch else ""
    return Step(begun, reasons=(f"staging{where}: {why}",))


def _others(state: ServiceState, target: str) -> tuple[Live, ...]:
    """What else than the live version and the new one has traffic, as a stopped line leaves it: healing has to know it.

    What went back may still drain, and is known to have had traffic until the next switch.
    """
    rollout = state.rollout
    specs = {b.spec for b in state.backends if b.role == "live"}
    known = {other.spec: other for other in state.others}
    if rollout is not None:
        known[rollout.target] = Live(spec=rollout.target, revision=rollout.revision, image=rollout.image)
        specs |= {rollout.target} if rollout.returned is not None else set()
        specs |= {other.spec for other in state.others} if rollout.switched_at is None else set()
    specs -= {target, state.live.spec if state.live is not None else ""}
    return tuple(known[spec] for spec in sorted(specs & known.keys()))


def _why(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, scope: tuple[str, ...] | None) -> str:
    revision, live = context.desired.revision, state.live
    if scope is not None:
        conditions = [c for name in scope if name in context.reports for c in context.reports[name].conditions]
        stuck = any(c.reason == SIDECAR_STUCK and c.service == str(key) for c in conditions)
        return f"{SIDECAR_CAUSE if stuck else 'secrets changed'} on {', '.join(scope)}"
    if live is None or live.spec != want.spec.digest:
        old = context.desired.service_at(key, live.spec) if live is not None else None
        return cause(old, want, revision)
    if assignment(want, state).moved:
        here = ", ".join(sorted({server for server, _ in assignment(want, state).places}))
        return f"placement changed to {here} ({revision})"
    apart: list[Place] = outdated(want, state)
    return f"another version than the live one on {', '.join(sorted({server for server, _ in apart}))} ({revision})"


def _attempt(rollout: Rollout | None, revision: Revision) -> int:
    """Attempts are counted per config revision, so that a rollout's identity is never used twice."""
    if rollout is None or rollout.id.partition("/")[0] != revision.short:
        return 1
    return rollout.attempt + 1


def _refresh(context: Context, key: ServiceKey, state: ServiceState) -> tuple[str, ...]:
    """The servers that ask for a one-server rollout and where the service is live."""
    live = {b.server for b in state.backends if b.role == "live" and b.server in context.desired.servers}
    since = state.rollout.switched_at if state.rollout is not None else None
    asking = (name for name, report in context.reports.items() if str(key) in report.refresh)
    return tuple(sorted(name for name in asking if name in live and context.seen(name, since)))


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
