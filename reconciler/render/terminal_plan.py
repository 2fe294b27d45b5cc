"""What a pass would do, as a table of services and a list of actions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler.model import action as a
from reconciler.model.action import Action
from reconciler.model.cluster import ClusterState, ServiceState
from reconciler.model.container import ContainerPlan
from reconciler.render.terminal import Cell, Note, Table, Tone

ENDED = ("done", "aborted")


@dataclass(frozen=True)
class ActionView:
    """One action in words: what is done, to what, and why."""

    verb: str
    name: str
    cause: str


@dataclass(frozen=True)
class ChangeView:
    """What would become of one service. `change` is the rollout's strategy, `deploy`, `remove`, `held`, or None for nothing."""

    service: str
    change: str | None
    before: tuple[str, ...]
    after: tuple[str, ...]
    cause: str | None
    held: str | None


def changes(before: ClusterState, after: ClusterState) -> tuple[ChangeView, ...]:
    """Every service of the two decisions, by name."""
    return tuple(
        _change(name, before.services.get(name), after.services.get(name)) for name in sorted({*before.services, *after.services})
    )


def action_views(actions: Iterable[Action]) -> tuple[ActionView, ...]:
    """The actions in words, in their order."""
    return tuple(_action(action) for action in actions)


def plan_table(found: Sequence[ChangeView]) -> Table:
    """One row per service."""
    return Table(("service", "change", "slots", "cause"), tuple(_row(view) for view in found))


def plan_notes(found: Sequence[ChangeView], actions: Sequence[ActionView]) -> tuple[Note, ...]:
    """What is held back, and the actions of the next pass."""
    notes = [Note(view.service, f"held back: {view.held}", "warn") for view in found if view.held]
    if actions:
        lines = tuple(f"{view.verb} {view.name} ({view.cause})" for view in actions)
        notes.append(Note("The next pass on this server begins with", "", "strong", lines))
    return tuple(notes)


def _change(name: str, was: ServiceState | None, now: ServiceState | None) -> ChangeView:
    before = _live(was)
    if now is None:
        return ChangeView(name, "remove", before, (), "the config no longer has it", None)
    rollout = now.rollout
    began = rollout is not None and (was is None or was.rollout is None or was.rollout.id != rollout.id)
    if rollout is None or (rollout.phase in ENDED and not began):
        return ChangeView(name, "held" if now.held else None, before, _live(now), None, now.held)
    strategy = "deploy" if was is None or was.live is None else rollout.strategy
    return ChangeView(name, strategy, before, () if strategy == "remove" else _then(now), rollout.cause, now.held)


def _live(state: ServiceState | None) -> tuple[str, ...]:
    return tuple(_place(b.server, b.replica, b.slot) for b in state.backends if b.role == "live") if state is not None else ()


def _then(state: ServiceState) -> tuple[str, ...]:
    """Where the traffic goes once what is staged has taken over."""
    staged = {(b.server, b.replica): b for b in state.backends if b.role == "staged"}
    live = {(b.server, b.replica): b for b in state.backends if b.role == "live"}
    return tuple(_place(b.server, b.replica, b.slot) for _, b in sorted({**live, **staged}.items()))


def _place(server: str, replica: int, slot: str) -> str:
    return f"{server} {slot}" + (f" ({replica})" if replica > 1 else "")


def _row(view: ChangeView) -> tuple[Cell, ...]:
    if view.change is None:
        return Cell(view.service, "strong"), Cell("none", "dim"), Cell(", ".join(view.before), "dim"), Cell("", "dim")
    tone: Tone = "bad" if view.change == "remove" else "warn" if view.change == "held" else "good"
    before, after = ", ".join(view.before) or "nothing", ", ".join(view.after) or "nothing"
    slots = before if before == after else f"{before} -> {after}"
    cause = view.cause or ("see below" if view.held else "")
    return Cell(view.service, "strong"), Cell(view.change, tone), Cell(slots), Cell(cause)


def _action(action: Action) -> ActionView:
    match action:
        case a.EnsureNetwork():
            return ActionView("create network", f"{action.name} {action.subnet}", action.cause)
        case a.PrepareImage():
            return ActionView("build" if action.build else "pull", action.reference, action.cause)
        case a.StartInstance():
            verb = "replace" if action.replaces else "start"
            return ActionView(verb, f"{action.application.name}{_also(action.sidecar)}", action.cause)
        case a.StartContainer():
            return ActionView("unpause" if action.paused else "start again", action.name, action.cause)
        case a.SignalInstance():
            return ActionView("send the stop signal to", action.instance.name, action.cause)
        case a.RemoveInstance():
            return ActionView("remove", action.name, action.cause)
        case a.StartNginx():
            return ActionView("replace" if action.replaces else "start", action.container.name, action.cause)
        case a.ConnectNetwork():
            return ActionView("connect", f"{action.container} to {action.network}", action.cause)
        case a.RestoreContainer():
            return ActionView("undo changes by hand on", action.plan.name, action.cause)
        case a.RemoveNetwork():
            return ActionView("remove network", action.name, action.cause)
        case a.Reload():
            return ActionView("reload", ", ".join(config.name for config in action.configs), action.cause)


def _also(sidecar: ContainerPlan | None) -> str:
    return f" with {sidecar.name}" if sidecar is not None else ""
