"""Services as people want to see them: what is live where, what a rollout waits for, what is held back and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.model.cluster import ClusterState, ServiceState
from reconciler.model.report import Condition
from reconciler.render.terminal import Cell, Note, Table

ENDED = ("done", "aborted")
LOG_LINES = 8


@dataclass(frozen=True)
class Refusal:
    """What is not tried again, and the last words of the container that failed."""

    revision: str
    reason: str
    log: tuple[str, ...]


@dataclass(frozen=True)
class ServiceView:
    """One service. `slots`: `server slot` of the instances with traffic. `rollout`: its phase, None when nothing is under way."""

    service: str
    live: str | None
    subject: str
    image: str | None
    slots: tuple[str, ...]
    rollout: str | None
    strategy: str | None
    target: str | None
    cause: str | None
    waits_for: str | None
    held: str | None
    rejected: Refusal | None
    happened: str | None = None

    @property
    def settled(self) -> bool:
        """Whether what is live is what is desired, with nothing held back."""
        return self.rollout is None and self.held is None and self.rejected is None


def views(cluster: ClusterState, subjects: Mapping[str, str], happened: Mapping[str, str] | None = None) -> tuple[ServiceView, ...]:
    """Every service of the decision, by name. `subjects`: commit subjects by revision. `happened`: what a run did, by service."""
    names = sorted({*cluster.services, *(happened or {})})
    return tuple(_view(name, cluster.services.get(name), subjects, (happened or {}).get(name)) for name in names)


def happened(before: ClusterState | None, after: ClusterState, said: Iterable[str]) -> Mapping[str, str]:
    """What a run did, by service: from the two decisions, and from the reasons that were given for services in between."""
    told: dict[str, list[str]] = {}
    for line in said:
        name, _, reason = line.partition(" ")
        if name.count("/") == 2 and reason:
            told.setdefault(name, []).append(reason)
    names = {*after.services, *told, *(before.services if before is not None else {})}
    found = {}
    for name in sorted(names):
        was = before.services.get(name) if before is not None else None
        now = after.services.get(name)
        if now is None and was is None:
            continue
        found[name] = _change(was, now, told.get(name, []))
    return found


def service_table(found: Sequence[ServiceView], *, with_happened: bool = False) -> Table:
    """The table of services; notes say what does not fit into it."""
    columns = ("service", "live", "slot", "this pass" if with_happened else "rollout")
    rows = []
    for view in found:
        live = Cell(view.live[:7] if view.live else "nothing", "plain" if view.live else "warn")
        slots = Cell(", ".join(view.slots) or "nowhere", "plain" if view.slots else "warn")
        last = _last(view, with_happened)
        rows.append((Cell(view.service, "strong"), live, slots, last))
    return Table(columns, tuple(rows))


def service_notes(found: Sequence[ServiceView]) -> tuple[Note, ...]:
    """What is refused, held back or waited for."""
    notes = []
    for view in found:
        if view.rejected is not None:
            text = f"{view.rejected.revision[:7]} was refused: {view.rejected.reason}"
            if view.held and view.rejected.reason not in view.held:
                text += f" ({view.held})"
            text += f". To try it again as it is: reconcile retry {view.service}"
            notes.append(Note(view.service, text, "bad", view.rejected.log[-LOG_LINES:]))
        elif view.held is not None:
            notes.append(Note(view.service, f"held back: {view.held}", "warn"))
        elif view.waits_for is not None:
            notes.append(Note(view.service, f"{view.rollout or 'ended'}: {view.waits_for}", "warn"))
    return tuple(notes)


def condition_notes(conditions: Iterable[Condition]) -> tuple[Note, ...]:
    """Conditions that need attention. `Ready` says nothing that the services do not."""
    return tuple(
        Note(condition.service or condition.reason, condition.message or condition.reason, "warn" if condition.status else "bad")
        for condition in conditions
        if condition.type != "Ready"
    )


def _view(name: str, state: ServiceState | None, subjects: Mapping[str, str], what: str | None) -> ServiceView:
    if state is None:
        return ServiceView(name, None, "", None, (), None, None, None, None, None, None, None, what)
    rollout = state.rollout
    active = rollout is not None and rollout.phase not in ENDED
    rejected = state.rejected
    return ServiceView(
        service=name,
        live=state.live.revision if state.live is not None else None,
        subject=subjects.get(state.live.revision, "") if state.live is not None else "",
        image=state.live.image if state.live is not None else None,
        slots=tuple(
            f"{b.server} {b.slot}" + (f" ({b.replica})" if b.replica > 1 else "") for b in state.backends if b.role == "live"
        ),
        rollout=rollout.phase if active and rollout is not None else None,
        strategy=rollout.strategy if active and rollout is not None else None,
        target=rollout.revision if active and rollout is not None else None,
        cause=rollout.cause if active and rollout is not None else None,
        waits_for=rollout.reason if active and rollout is not None else None,
        held=state.held,
        rejected=Refusal(rejected.revision, rejected.reason, rejected.log) if rejected is not None else None,
        happened=what,
    )


def _last(view: ServiceView, with_happened: bool) -> Cell:
    if with_happened:
        quiet = view.happened in (None, "unchanged")
        return Cell(view.happened or "unchanged", "dim" if quiet else "good" if view.settled else "warn")
    if view.rollout is not None:
        return Cell(f"{view.rollout} {(view.target or '')[:7]}: {view.cause}", "warn")
    if view.rejected is not None:
        return Cell(f"{view.rejected.revision[:7]} refused", "bad")
    return Cell("held back", "warn") if view.held is not None else Cell(view.subject or "settled", "dim")


def _change(was: ServiceState | None, now: ServiceState | None, told: Sequence[str]) -> str:
    if now is None:
        return "removed"
    before = was.live.spec if was is not None and was.live is not None else None
    live = now.live
    if was is not None and now.rejected is not None and now.rejected != was.rejected:
        return f"{now.rejected.revision[:7]} refused"
    if live is not None and live.spec != before and (was is not None or told):
        cause = now.rollout.cause if now.rollout is not None else ""
        return f"now {live.revision[:7]}: {cause}" if cause else f"now {live.revision[:7]}"
    if not told:
        return "unchanged"
    return told[-1]
