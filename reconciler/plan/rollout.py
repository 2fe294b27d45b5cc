"""One step of one service's rollout: an ordered ladder, first match wins. The phases are those of DESIGN section 6.

staging -> switching -> draining -> done          toggle, refresh, and every first deploy
staging -> replacing (server by server) -> done   recreate over something that is live
draining -> gone                                  remove
aborted                                           from staging or replacing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.cluster import Backend, ClusterState, Live, Rejected, Rollout, RolloutStrategy, ServiceState
from reconciler.model.desired import Desired, DesiredService, Revision
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Elapsed
from reconciler.model.report import InstanceReport, Report
from reconciler.plan import facts
from reconciler.plan.cause import cause
from reconciler.plan.placed import assignment, idle_slot, live_slots, staged
from reconciler.plan.votes import Tally, acknowledged, gone, tally


@dataclass(frozen=True)
class Context:
    """What every step may look at. `generation` is the one that the decision being made will carry if it changes routes."""

    desired: Desired
    cluster: ClusterState
    reports: Mapping[str, Report]
    elapsed: Elapsed
    generation: int


@dataclass(frozen=True)
class Step:
    """The service's next state (None: forgotten), whether nginx configurations may differ from before, and why."""

    state: ServiceState | None
    bump: bool = False
    reasons: tuple[str, ...] = ()


def step(context: Context, key: ServiceKey, want: DesiredService | None, state: ServiceState | None) -> Step:
    """The ladder. `want` None: the config no longer has the service. `state` None: the decision does not know it yet."""
    if want is None:
        return _remove(context, key, state) if state is not None else Step(None)
    if state is None:
        return _start(context, key, want, ServiceState(internal_port=want.internal_port, container_port=want.spec.port))
    state = _released(state.model_copy(update={"internal_port": want.internal_port}))
    rollout = state.rollout
    if rollout is not None and rollout.phase == "staging":
        return _staging(context, key, want, state, rollout)
    if rollout is not None and rollout.phase == "replacing":
        return _replacing(context, key, want, state, rollout)
    if rollout is not None and rollout.phase == "switching":
        return _switching(context, state, rollout)
    if rollout is not None and rollout.phase == "draining":
        return _draining(context, key, state, rollout)
    return _start(context, key, want, state)


# Starting


def _start(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState) -> Step:
    """No rollout is under way: does one have to begin?"""
    rollout, target = state.rollout, want.spec.digest
    retried = any(str(key) in report.retry for report in context.reports.values())
    place = assignment(want, state)
    refresh = _refresh_scope(context, key, state)
    if state.live is not None and state.live.spec == target and not place.moved and not refresh:
        return Step(state.model_copy(update={"rejected": None}))
    if want.stalled:
        return Step(_held(state, want.stalled))
    if state.rejected is not None and state.rejected.spec == target and not retried:
        return Step(_held(state, f"{state.rejected.reason}; commit a change, or run `reconcile retry {key}`"))
    if want.suspend:
        return Step(_held(state, "suspended in the config"))
    if rollout is not None and rollout.phase == "aborted" and rollout.target == target and state.retries and not retried:
        delay = facts.retry_delay(state.retries)
        if context.elapsed.of(facts.aborted(key, rollout)) < delay:
            return Step(_held(state, f"{rollout.reason}; trying again after {delay:.0f} s"))
    return _begin(context, key, want, state, refresh)


def _begin(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, refresh: tuple[str, ...]) -> Step:
    strategy: RolloutStrategy
    scope: tuple[str, ...] | None
    target, revision = want.spec.digest, context.desired.revision
    same = state.live is not None and state.live.spec == target
    place = assignment(want, state)
    recreate = want.strategy == "recreate" and state.live is not None
    attempt = _attempt(state.rollout, revision)
    if same and not place.moved:
        strategy, scope = "refresh", refresh
        why = f"secrets changed on {', '.join(refresh)}"
        # What runs is the live spec of the live revision; only the servers' own part of it changed.
        places = [p for p in live_slots(state) if p[0] in refresh]
    elif same:
        strategy, scope = want.strategy, None
        missing = place.places - set(live_slots(state))
        places = sorted(missing)
        here = ", ".join(sorted({server for server, _ in place.places}))
        why = f"placement changed to {here} ({revision})"
        recreate = False
    else:
        strategy, scope = want.strategy, None
        places = sorted(place.places)
        old = context.desired.service_at(key, state.live.spec) if state.live else None
        why = cause(old, want, revision)
    slots = {p: idle_slot(state, p) for p in places}
    if not recreate and any(slot is None for slot in slots.values()):
        return Step(_held(state, "the other slot is still draining"))
    rollout = Rollout(
        id=f"{revision.short}/{attempt}",
        target=target,
        revision=state.live.revision if state.live and scope is not None else revision.sha,
        image=state.live.image if same and state.live else None,
        strategy="recreate" if recreate else strategy,
        phase="staging",
        attempt=attempt,
        scope=scope,
        cause=why,
    )
    new = () if recreate else tuple(staged(p, slot, target) for p, slot in slots.items() if slot is not None)
    begun = state.model_copy(update={"rollout": rollout, "backends": (*state.backends, *new), "rejected": None, "held": None})
    return Step(begun, reasons=(f"staging: {why}",))


def _attempt(rollout: Rollout | None, revision: Revision) -> int:
    """Attempts are counted per config revision, so that a rollout's identity is never used twice."""
    if rollout is None or rollout.id.partition("/")[0] != revision.short:
        return 1
    return rollout.attempt + 1


def _refresh_scope(context: Context, key: ServiceKey, state: ServiceState) -> tuple[str, ...]:
    """The servers that ask for a one-server rollout and where the service is live."""
    live = {b.server for b in state.backends if b.role == "live"}
    since = state.rollout.switched_at if state.rollout is not None else None
    asking = (name for name, report in context.reports.items() if str(key) in report.refresh)
    return tuple(sorted(name for name in asking if name in live and _seen(context, name, since)))


def _seen(context: Context, server: str, generation: int | None) -> bool:
    """Whether the server wrote its report in knowledge of `generation`; before that, it speaks of an earlier state of affairs."""
    report = context.reports.get(server)
    if report is None or report.seen is None or report.seen.epoch != context.cluster.epoch:
        return False
    return report.seen.generation >= (generation or 0)


# Staging


def _staging(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout) -> Step:
    overtaken = _overtaken(context, want, state, rollout)
    if overtaken is not None:
        return _abort(state, rollout, overtaken)
    over_live = rollout.strategy == "recreate"
    candidates = _turns(state, rollout) if over_live else [b for b in state.backends if b.role == "staged"]
    votes = tally(key, candidates, rollout, context.reports)
    if votes.failed:
        return _failed(key, state, rollout, votes)
    deadline = want.progress_deadline
    if not votes.unanimous and context.elapsed.of(facts.staging(key, rollout)) > deadline:
        waiting = ", ".join(sorted({backend.server for backend, _ in votes.waiting}))
        return _abort(state, rollout, f"not ready on {waiting} after {deadline:.0f} s", again=True)
    if not votes.unanimous:
        return _waits(state, rollout, _waited_for(votes))
    rollout = rollout.model_copy(update={"image": _resolved(rollout, votes), "reason": None})
    if over_live:
        return _next_turn(context, state, rollout, ())
    return _switch(context, key, want, state, rollout, votes)


def _overtaken(context: Context, want: DesiredService, state: ServiceState, rollout: Rollout) -> str | None:
    """Why a rollout that has not switched should not go on."""
    if want.stalled:
        return want.stalled
    if want.suspend:
        return "suspended in the config"
    if rollout.scope is not None:
        return None if state.live is not None and state.live.spec == rollout.target else "overtaken by another version"
    if want.spec.digest != rollout.target:
        return f"overtaken by {context.desired.revision}"
    if rollout.strategy != "recreate":
        reached = {(b.server, b.replica) for b in state.backends if b.role == "staged" or b.spec == rollout.target}
        if not assignment(want, state).places <= reached:
            return "the placement changed"
    return None


def _switch(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout, votes: Tally) -> Step:
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
    live = Live(spec=rollout.target, revision=rollout.revision, image=rollout.image)
    backends = tuple(after(b) for b in state.backends)
    slots = ", ".join(sorted(f"{b.server} {b.slot}" for b, _ in votes.ready))
    took = max((entry.after_s or 0.0 for _, entry in votes.ready), default=0.0)
    reason = f"live on {slots}, healthy after {took:.1f} s: {rollout.cause}"
    new = state.model_copy(
        update={
            "rollout": switched,
            "live": live,
            "backends": backends,
            "container_port": want.spec.port,
            "retries": 0,
            "rejected": None,
            "held": None,
        }
    )
    return Step(new, bump=True, reasons=(reason,))


# After the switch


def _switching(context: Context, state: ServiceState, rollout: Rollout) -> Step:
    silent = acknowledged(context.cluster, context.reports, rollout.switched_at or 0)
    if silent:
        return _waits(state, rollout, f"waiting for {', '.join(silent)} to acknowledge generation {rollout.switched_at}")
    return Step(
        state.model_copy(update={"rollout": rollout.model_copy(update={"phase": "draining", "reason": None})}),
        reasons=(f"draining: every member serves generation {rollout.switched_at}",),
    )


def _draining(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> Step:
    left = [b for b in state.backends if b.role == "draining" and not gone(key, b, rollout, context.cluster, context.reports)]
    backends = tuple(b for b in state.backends if b.role != "draining" or b in left)
    if left:
        return Step(state.model_copy(update={"backends": backends}))
    done = rollout.model_copy(update={"phase": "done", "reason": None})
    new = state.model_copy(update={"rollout": done, "backends": backends})
    return Step(new, reasons=(f"done: {rollout.cause}",))


# Recreate: one server at a time, in its own slot


def _turns(state: ServiceState, rollout: Rollout) -> list[Backend]:
    """The live backends that the rollout concerns, in the order in which they are replaced."""
    concerned = (b for b in state.backends if b.role == "live" and (rollout.scope is None or b.server in rollout.scope))
    return sorted(concerned, key=lambda b: (b.server, b.replica))


def _replacing(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout) -> Step:
    if rollout.replacing is None or not _seen(context, rollout.replacing, rollout.switched_at):
        return Step(state)
    turn = [b for b in _turns(state, rollout) if b.server == rollout.replacing]
    votes = tally(key, turn, rollout, context.reports)
    if votes.failed:
        return _recreate_failed(context, key, want, state, rollout, votes)
    if not votes.unanimous:
        return _waits(state, rollout, _waited_for(votes))
    return _next_turn(context, state, rollout, votes.ready)


def _next_turn(context: Context, state: ServiceState, rollout: Rollout, ready: tuple[tuple[Backend, InstanceReport], ...]) -> Step:
    """The next server in order, or the end."""
    servers = sorted({b.server for b in _turns(state, rollout)})
    left = [server for server in servers if rollout.replacing is None or server > rollout.replacing]
    if not left:
        live = Live(spec=rollout.target, revision=rollout.revision, image=rollout.image)
        done = rollout.model_copy(update={"phase": "done", "replacing": None, "reason": None})
        slots = ", ".join(f"{b.server} {b.slot}" for b in _turns(state, rollout))
        took = max((entry.after_s or 0.0 for _, entry in ready), default=0.0)
        reason = f"live on {slots}, healthy after {took:.1f} s: {rollout.cause}"
        new = state.model_copy(update={"rollout": done, "live": live, "retries": 0, "rejected": None, "held": None})
        return Step(new, bump=True, reasons=(reason,))
    server = left[0]
    backends = tuple(
        b.model_copy(update={"spec": rollout.target}) if b.role == "live" and b.server == server else b for b in state.backends
    )
    replacing = rollout.model_copy(
        update={"phase": "replacing", "replacing": server, "switched_at": context.generation, "reason": None}
    )
    new = state.model_copy(update={"rollout": replacing, "backends": backends})
    return Step(new, bump=True, reasons=(f"replacing on {server}: {rollout.cause}",))


def _recreate_failed(
    context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout, votes: Tally
) -> Step:
    """Going back happens by itself only if `rollback: image` is set: the data may have been upgraded (DESIGN section 6)."""
    if want.spec.digest != rollout.target:
        return _abort(state, rollout, f"overtaken by {context.desired.revision}")
    entry = votes.failed[0][1]
    why = f"{rollout.replacing}: {entry.reason or 'health check failed'}"
    if want.rollback_image and state.live is not None:
        old = state.live.spec
        backends = tuple(
            b.model_copy(update={"spec": old}) if b.role == "live" and b.server == rollout.replacing else b for b in state.backends
        )
        step_back = _abort(state.model_copy(update={"backends": backends}), rollout, why)
        rejected = Rejected(spec=rollout.target, revision=rollout.revision, reason=why, log=entry.log)
        assert step_back.state is not None
        new = step_back.state.model_copy(update={"rejected": rejected})
        return Step(new, bump=True, reasons=(f"aborted, back to the old image: {why}",))
    advice = f"Stalled: {why}. Its data may have been changed: commit a fix or a revert, or set `rollout: {{rollback: image}}`"
    if rollout.reason == advice:
        return Step(state)
    return Step(state.model_copy(update={"rollout": rollout.model_copy(update={"reason": advice})}), reasons=(advice,))


# Ending early


def _failed(key: ServiceKey, state: ServiceState, rollout: Rollout, votes: Tally) -> Step:
    backend, entry = next((pair for pair in votes.failed if not pair[1].transient), votes.failed[0])
    why = f"{backend.server}: {entry.reason or 'health check failed'}"
    if entry.transient:
        return _abort(state, rollout, why, again=True)
    stopped = _abort(state, rollout, why)
    rejected = Rejected(spec=rollout.target, revision=rollout.revision, reason=why, log=entry.log)
    assert stopped.state is not None
    return Step(stopped.state.model_copy(update={"rejected": rejected}), reasons=stopped.reasons)


def _abort(state: ServiceState, rollout: Rollout, why: str, *, again: bool = False) -> Step:
    """Forget the staged instances; the live ones never noticed. `again`: the cause may pass, so count it for the back-off."""
    aborted = rollout.model_copy(update={"phase": "aborted", "reason": why, "replacing": None})
    backends = tuple(b for b in state.backends if b.role != "staged")
    retries = state.retries + 1 if again else 0
    new = state.model_copy(update={"rollout": aborted, "backends": backends, "retries": retries})
    return Step(new, reasons=(f"aborted: {why}",))


def _remove(context: Context, key: ServiceKey, state: ServiceState) -> Step:
    """The config no longer has the service: its upstreams go, then its instances. Volumes stay."""
    rollout = state.rollout
    if rollout is not None and rollout.strategy == "remove" and rollout.phase == "switching":
        return _switching(context, state, rollout)
    if rollout is not None and rollout.strategy == "remove":
        left = [b for b in state.backends if not gone(key, b, rollout, context.cluster, context.reports)]
        return Step(state) if left else Step(None, reasons=("removed; its volumes are kept",))
    if rollout is not None and rollout.phase in ("switching", "draining"):
        return _switching(context, state, rollout) if rollout.phase == "switching" else _draining(context, key, state, rollout)
    backends = tuple(
        b.model_copy(update={"role": "draining", "weight": 0}) for b in state.backends if b.role in ("live", "draining")
    )
    if not backends:
        return Step(None, reasons=("removed before it was live",))
    why = f"removed by {context.desired.revision}"
    removal = Rollout(
        id=f"{context.desired.revision.short}/remove",
        target="",
        revision=context.desired.revision.sha,
        strategy="remove",
        phase="switching",
        switched_at=context.generation,
        cause=why,
    )
    new = state.model_copy(update={"rollout": removal, "live": None, "backends": backends, "held": None, "rejected": None})
    return Step(new, bump=True, reasons=(why,))


# Small parts


def _held(state: ServiceState, why: str) -> ServiceState:
    return state.model_copy(update={"held": why})


def _released(state: ServiceState) -> ServiceState:
    """`held` is said anew by whatever holds."""
    return state.model_copy(update={"held": None}) if state.held else state


def _waits(state: ServiceState, rollout: Rollout, why: str | None) -> Step:
    """Nothing to do but to say what is waited for."""
    if why == rollout.reason:
        return Step(state)
    new = state.model_copy(update={"rollout": rollout.model_copy(update={"reason": why})})
    return Step(new, reasons=(why or f"{rollout.phase} goes on",))


def _waited_for(votes: Tally) -> str | None:
    """What the servers say they wait for, by name."""
    return "; ".join(f"{b.server}: {entry.reason}" for b, entry in votes.waiting if entry is not None and entry.reason) or None


def _resolved(rollout: Rollout, votes: Tally) -> str | None:
    """The immutable reference that every server is to run: what the first server (by name) resolved it to."""
    if rollout.image:
        return rollout.image
    found = sorted((b.server, entry.image) for b, entry in votes.ready if entry.image)
    return found[0][1] if found else None
