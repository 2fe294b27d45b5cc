"""One step of one service's rollout: an ordered ladder, first match wins. The phases are those of DESIGN section 6.

staging -> switching -> done                      toggle, refresh, and every first deploy; a sole member: -> draining -> done
staging -> replacing (server by server) -> done   recreate over something that is live
staging -> switching -> soaking, batch by batch, -> switching -> draining -> done   rolling over something that is live
switching -> draining -> gone                     remove
aborted                                           from staging, replacing, or a line that was stopped
"""

from __future__ import annotations

from reconciler.model.cluster import ServiceState
from reconciler.model.desired import DesiredService
from reconciler.model.identity import ServiceKey
from reconciler.plan.recreate import replacing
from reconciler.plan.rolling import line
from reconciler.plan.staging import staging
from reconciler.plan.starting import refreshing, start
from reconciler.plan.step import Context, Step, abort, held
from reconciler.plan.switching import draining, removal, switching


def step(context: Context, key: ServiceKey, want: DesiredService | None, state: ServiceState | None) -> Step:
    """The ladder. `want` None: the config no longer has the service. `state` None: the decision does not know it yet."""
    if want is None:
        return removal(context, key, held(state, None)) if state is not None else Step(None)
    if state is None:
        return start(context, key, want, ServiceState(internal_port=want.internal_port, container_port=want.spec.port))
    state = held(state, None)
    if state.internal_port != want.internal_port:
        moved = state.model_copy(update={"internal_port": want.internal_port})
        return Step(moved, bump=True, reasons=(f"internal port {state.internal_port} -> {want.internal_port}",))
    rollout = state.rollout
    if rollout is not None and rollout.in_line:
        return line(context, key, want, state, rollout)
    if rollout is not None and rollout.scope is not None and rollout.phase in ("staging", "replacing"):
        return refreshing(context, key, want, state, rollout)
    if rollout is not None and rollout.phase == "staging":
        return staging(context, key, want, state, rollout)
    if rollout is not None and rollout.phase == "replacing":
        return replacing(context, key, want, state, rollout)
    if rollout is not None and rollout.phase == "switching":
        return switching(context, key, state, rollout)
    if rollout is not None and rollout.phase == "draining":
        return draining(context, key, state, rollout)
    return start(context, key, want, state)


def keep(context: Context, key: ServiceKey, state: ServiceState, why: str) -> Step:
    """The config no longer has the service, and it stays all the same: what began to switch ends, nothing else begins."""
    rollout = state.rollout
    state = held(state, why)
    if rollout is not None and rollout.in_line and rollout.switched_at is not None:
        return Step(state)  # the line stands still: it goes on, or back, with the next commit
    if rollout is not None and rollout.phase == "staging":
        return abort(state, rollout, why)
    if rollout is not None and rollout.phase == "switching":
        return switching(context, key, state, rollout)
    if rollout is not None and rollout.phase == "draining":
        return draining(context, key, state, rollout)
    return Step(state)
