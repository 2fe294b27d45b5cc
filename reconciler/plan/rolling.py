"""A rolling rollout over something that is live: a line of servers, a batch of them at a time (docs/decisions/0005).

staging -> switching -> soaking -> staging of the next batch -> ... -> switching (the end of the line) -> draining -> done

What a switched server ran before is kept: it runs without traffic, so that the way back starts nothing. What is live stays the old
version until the last batch has passed its soak.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from reconciler.model.cluster import Backend, Live, Rejected, Rollout, ServiceState
from reconciler.model.desired import DesiredService
from reconciler.model.identity import ServiceKey
from reconciler.model.report import InstanceReport
from reconciler.plan import facts
from reconciler.plan.health import entry_of, listed, unavailable
from reconciler.plan.pins import agreed, differ, found, pin
from reconciler.plan.placed import assignment, idle_slot, outdated, staged
from reconciler.plan.slots import replaced_versions
from reconciler.plan.step import ATTEMPTS, Context, Step, abort, held, waited_for, waits
from reconciler.plan.stopping import stop
from reconciler.plan.switching import unacknowledged
from reconciler.plan.votes import Tally, pinned, tally


def line(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout) -> Step:
    """The ladder of a line that has not come to its end (`Rollout.in_line`)."""
    if want.spec.digest != rollout.target:
        return stop(context, key, state, rollout, f"overtaken by {context.desired.revision}", back=None)
    pause = want.stalled or ("suspended in the config" if want.suspend else None)
    if pause and rollout.switched_at is None:
        return abort(state, rollout, pause)
    if rollout.phase == "staging":
        return _staging(context, key, want, state, rollout, pause)
    failed = _failures(context, key, state, rollout)
    if failed:
        return _failed(context, key, want, state, rollout, failed)
    if rollout.phase == "switching":
        blocking = unacknowledged(context, key, state, rollout)
        if blocking:
            return waits(state, rollout, f"waiting for {', '.join(blocking)} to acknowledge generation {rollout.switched_at}")
        why = f"soaking for {want.rolling.soak:g} s on {_names(rollout.batch)}{_progress(want, state, rollout)}"
        soaking = rollout.model_copy(update={"phase": "soaking", "reason": why})
        return Step(state.model_copy(update={"rollout": soaking}), reasons=(why,))
    return _soaking(context, key, want, state, rollout, pause)


def next_batch(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState) -> tuple[str, ...]:
    """The servers whose turn it is next, sorted: first those that lack a healthy instance, for which it can only get better."""
    servers = sorted({server for server, _ in outdated(want, state)})
    lacking = unavailable(context, key, state)
    ranked = sorted(servers, key=lambda server: (server not in lacking, server))
    return tuple(sorted(ranked[: want.rolling.max_parallel]))


def _staging(
    context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout, pause: str | None
) -> Step:
    """The batch's new instances have no traffic yet."""
    there = [b for b in state.backends if b.role == "staged"]
    due = [place for place in outdated(want, state) if place[0] in rollout.batch]
    if sorted((b.server, b.replica) for b in there) != due:
        return _anew(context, key, want, state, rollout)
    votes = tally(key, there, rollout, context.cluster, context.reports)
    if votes.failed:
        return _failed(context, key, want, state, rollout, {b.server: entry for b, entry in votes.failed})
    image = found(key, want, rollout, there, context.cluster, context.reports) if differ(votes) else None
    if image is not None:
        return pin(want, state, rollout, image)
    if pause:
        return Step(held(state, pause))
    deadline = want.progress_deadline
    if not votes.unanimous and context.elapsed.of(facts.staging(key, rollout)) > deadline:
        late = sorted({backend.server for backend, _ in votes.waiting})
        return _passing(context, key, want, state, rollout, f"not ready on {_names(late)} after {deadline:.0f} s", late)
    if not votes.unanimous:
        return waits(state, rollout, waited_for(votes))
    lacking = unavailable(context, key, state)
    others = {server: why for server, why in lacking.items() if server not in rollout.batch}
    if len(others) > want.rolling.max_unavailable and not set(rollout.batch) <= lacking.keys():
        return waits(state, rollout, f"not switched before these are healthy: {listed(others)}")
    return _switch(context, want, state, rollout, votes)


def _anew(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout) -> Step:
    """The placement changed under a batch: stage the right one, under another identity: votes on this one may be on their way."""
    if rollout.switched_at is None:
        return abort(state, rollout, "the placement changed")
    number = rollout.attempt + 1
    again = rollout.model_copy(update={"id": f"{rollout.id.partition('/')[0]}/{number}", "attempt": number})
    without = state.model_copy(update={"backends": tuple(b for b in state.backends if b.role != "staged")})
    return _turn(context, key, want, without, again)


def _switch(context: Context, want: DesiredService, state: ServiceState, rollout: Rollout, votes: Tally) -> Step:
    """The batch is ready: its new instances get the traffic, its old ones are kept."""
    arrived = {(b.server, b.replica) for b, _ in votes.ready}
    ports = {(b.server, b.replica): entry.port for b, entry in votes.ready}

    def after(backend: Backend) -> Backend:
        place = (backend.server, backend.replica)
        if backend.role == "staged":
            return backend.model_copy(update={"role": "live", "weight": 100, "port": ports.get(place)})
        if backend.role == "live" and place in arrived:
            return backend.model_copy(update={"role": "kept", "weight": 0})
        return backend

    image = agreed(want, rollout, votes.ready)
    switched = rollout.model_copy(
        update={
            "phase": "switching",
            "image": image if pinned(image) and want.spec.build is None else rollout.image,  # an id is no other server's
            "switched_at": context.generation,
            "switched": tuple(sorted({*rollout.switched, *rollout.batch})),
            "reason": None,
        }
    )
    new = state.model_copy(update={"rollout": switched, "backends": tuple(after(b) for b in state.backends)})
    slots = ", ".join(sorted(f"{b.server} {b.slot}" for b, _ in votes.ready))
    took = max((entry.after_s or 0.0 for _, entry in votes.ready), default=0.0)
    told = f"switched on {slots}{_progress(want, new, switched)}, healthy after {took:.1f} s: {rollout.cause}"
    return Step(new, bump=True, reasons=(told,))


def _soaking(
    context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout, pause: str | None
) -> Step:
    """The batch has its traffic and stays healthy, so far."""
    if context.elapsed.of(facts.staging(key, rollout)) < want.rolling.soak:
        return Step(state)
    lacking = {s: why for s, why in unavailable(context, key, state).items() if s in rollout.switched}
    if len(lacking) > want.rolling.max_unavailable:
        return waits(state, rollout, f"goes on when these are healthy: {listed(lacking)}")
    if pause:
        return Step(held(state, pause))
    return _turn(context, key, want, state, rollout)


def _turn(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout) -> Step:
    """Stage the next batch, or end the line."""
    batch = next_batch(context, key, want, state)
    if not batch:
        return _finish(context, key, want, state, rollout)
    slots = {place: idle_slot(state, place) for place in outdated(want, state) if place[0] in batch}
    taken = sorted({server for (server, _), slot in slots.items() if slot is None})
    if taken:
        return waits(state, rollout, f"the other slot is still draining on {_names(taken)}")
    added = tuple(staged(place, slot, want) for place, slot in slots.items() if slot is not None)
    turn = rollout.model_copy(update={"phase": "staging", "batch": batch, "reason": None})
    new = state.model_copy(update={"rollout": turn, "backends": (*state.backends, *added)})
    return Step(new, reasons=(f"staging on {_names(batch)}{_progress(want, new, turn)}: {rollout.cause}",))


def _finish(context: Context, key: ServiceKey, want: DesiredService, state: ServiceState, rollout: Rollout) -> Step:
    """Every place has it: what was kept, and what has no place any more, drains once everybody acknowledges that."""
    places = assignment(want, state).places
    live = [b for b in state.backends if b.role == "live" and b.spec == rollout.target]
    said = [(b, entry) for b in live if (entry := entry_of(context, key, b, rollout)) is not None]

    def after(backend: Backend) -> Backend:
        ends = backend.role == "kept" or (backend.role == "live" and (backend.server, backend.replica) not in places)
        return backend.model_copy(update={"role": "draining", "weight": 0}) if ends else backend

    ended = rollout.model_copy(update={"phase": "switching", "batch": (), "switched_at": context.generation, "reason": None})
    new = state.model_copy(
        update={
            "rollout": ended,
            "live": Live(spec=rollout.target, revision=rollout.revision, image=agreed(want, rollout, said)),
            "previous": state.live,
            "others": replaced_versions(state),
            "backends": tuple(after(b) for b in state.backends),
            "container_port": want.spec.port,
            "retries": 0,
            "rejected": None,
            "held": None,
        }
    )
    return Step(new, bump=True, reasons=(f"live on {_names(sorted({s for s, _ in places}))}: {rollout.cause}",))


def _failures(context: Context, key: ServiceKey, state: ServiceState, rollout: Rollout) -> Mapping[str, InstanceReport]:
    """By server: switched instances of the batch that crashed or became unhealthy."""
    found = {}
    for backend in state.backends:
        if backend.role == "live" and backend.spec == rollout.target and backend.server in rollout.batch:
            entry = entry_of(context, key, backend, rollout)
            if entry is not None and entry.phase == "failed":
                found[backend.server] = entry
    return found


def _failed(
    context: Context,
    key: ServiceKey,
    want: DesiredService,
    state: ServiceState,
    rollout: Rollout,
    failed: Mapping[str, InstanceReport],
) -> Step:
    """Stop the line: a version that fails is not tried again; a cause that may pass is."""
    server, entry = min(failed.items(), key=lambda pair: (pair[1].transient, pair[0]))
    why = f"{server}: {entry.reason or 'health check failed'}"
    if entry.transient and state.retries + 1 < ATTEMPTS:
        return _passing(context, key, want, state, rollout, why, failed)
    rejected = Rejected(spec=rollout.target, revision=rollout.revision, reason=why, log=entry.log)
    stopped = state.model_copy(update={"rejected": rejected})
    return stop(context, key, stopped, rollout, why, back=_back(want, failed))


def _passing(
    context: Context,
    key: ServiceKey,
    want: DesiredService,
    state: ServiceState,
    rollout: Rollout,
    why: str,
    failed: Collection[str],
) -> Step:
    stopped = state.model_copy(update={"retries": state.retries + 1})
    return stop(context, key, stopped, rollout, why, back=_back(want, failed))


def _back(want: DesiredService, failed: Collection[str]) -> frozenset[str] | None:
    return None if want.rolling.on_failure == "abort_all" else frozenset(failed)


def _progress(want: DesiredService, state: ServiceState, rollout: Rollout) -> str:
    """` (2 of 3 servers)`: how far the line has come with its batch."""
    servers = {server for server, _ in assignment(want, state).places}
    left = {server for server, _ in outdated(want, state)} - set(rollout.batch)
    return f" ({len(servers - left)} of {len(servers)} servers)"


def _names(servers: Collection[str]) -> str:
    return ", ".join(servers)
