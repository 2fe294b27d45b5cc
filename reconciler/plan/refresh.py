"""A refresh: what is one server's own changed, such as the contents of secrets. Its instances are made anew; their version stays.

It is queued behind any rollout, and is done also while the config's version is refused, suspended or cannot be placed: what is
live must not be left with secrets that no longer count.
"""

from __future__ import annotations

from reconciler.model.cluster import Rejected, Rollout, ServiceState
from reconciler.model.desired import DesiredService
from reconciler.model.identity import ServiceKey
from reconciler.plan import facts
from reconciler.plan.placed import live_slots, staged
from reconciler.plan.slots import free_slots, next_attempt, version_at
from reconciler.plan.step import SIDECAR_CAUSE, SIDECAR_STUCK, Context, Step, held


def begin(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, why: str | None) -> Step | None:
    """Stage the first server's by name that asks for it; None when nobody asks, or nothing can be done for who does.

    why: what holds back the config's version, to go on being said; None when what is live is what is desired.
    """
    for server in _asking(context, key, state):
        spec = next(b.spec for b in state.backends if b.role == "live" and b.server == server)
        live, version = running(context, key, want, state, spec, server), version_at(state, spec)
        if live is None or version is None:
            continue
        waiting = _refused(context, key, state, rejected=state.rejected if why is None else None)
        slots, taken = free_slots(context, key, state, () if live.strategy == "recreate" else _places(state, server))
        if waiting or taken:
            return Step(held(state, "; ".join(words for words in (why, waiting or taken) if words)))
        revision = context.desired.revision
        attempt = next_attempt(state.rollout, revision)
        cause = _cause(context, key, server)
        rollout = Rollout(
            id=f"{revision.short}/{attempt}",
            target=spec,
            revision=version.revision,
            image=version.image,
            strategy="recreate" if live.strategy == "recreate" else "refresh",
            phase="staging",
            attempt=attempt,
            scope=(server,),
            cause=cause,
        )
        again = state.rollout is not None and (state.rollout.target, state.rollout.scope) == (spec, (server,))
        begun = state.model_copy(
            update={
                "rollout": rollout,
                "others": state.others if version in (state.live, *state.others) else (*state.others, version),
                "backends": (*state.backends, *(staged(place, slot, live) for place, slot in slots.items())),
                "rejected": None if why is None else state.rejected,
                "held": why,
                "retries": state.retries if again else 0,
            }
        )
        return Step(begun, reasons=(f"staging: {cause}",))
    return None


def running(
    context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, spec: str, server: str
) -> DesiredService | None:
    """The version that a server runs, with nothing in its way: where it should be is where it is."""
    service = want if want.spec.digest == spec else context.desired.service_at(key, spec)
    if service is None:
        return None
    replicas = max((replica for _, replica in _places(state, server)), default=1)
    here = {"servers": (server,), "pinned": True, "replicas": replicas, "suspend": False, "stalled": None, "homeless": False}
    return service.model_copy(update=here)


def _places(state: ServiceState, server: str) -> list[tuple[str, int]]:
    return sorted(place for place in live_slots(state) if place[0] == server)


def _asking(context: Context, key: ServiceKey, state: ServiceState) -> tuple[str, ...]:
    """The servers that ask for a one-server rollout and where the service is live."""
    live = {b.server for b in state.backends if b.role == "live" and b.server in context.desired.servers}
    since = state.rollout.switched_at if state.rollout is not None else None
    asking = (name for name, report in context.reports.items() if str(key) in report.refresh)
    return tuple(sorted(name for name in asking if name in live and context.seen(name, since)))


def _refused(context: Context, key: ServiceKey, state: ServiceState, *, rejected: Rejected | None) -> str | None:
    """Why a refresh that failed is not tried once more, or not yet. `rejected`: what was refused, where that was a refresh."""
    rollout = state.rollout
    if context.retried(key, rollout):
        return None
    if rejected is not None:
        return f"{rejected.reason}; commit a change, or run `reconcile retry {key}`"
    if rollout is not None and rollout.phase == "aborted" and rollout.scope and state.retries:
        delay = facts.retry_delay(state.retries)
        if context.elapsed.of(facts.aborted(key, rollout)) < delay:
            return f"{rollout.reason}; trying again after {delay:.0f} s"
    return None


def _cause(context: Context, key: ServiceKey, server: str) -> str:
    report = context.reports[server]
    stuck = any(c.reason == SIDECAR_STUCK and c.service == str(key) for c in report.conditions)
    return f"{SIDECAR_CAUSE if stuck else 'secrets changed'} on {server}"
