"""`reconcile plan [PATH]`: what the next pass would decide and do. Nothing is written, neither in Docker nor in Git."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from reconciler.commands import codes
from reconciler.commands.asking import Asked, asked
from reconciler.commands.invocation import Invocation
from reconciler.commands.output import show, show_json
from reconciler.engine.preview import Preview, preview
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.identity import ServiceKey
from reconciler.render.terminal import Note, Page, counted
from reconciler.render.terminal_plan import ActionView, ChangeView, action_views, changes, plan_notes, plan_table


def plan(invocation: Invocation, path: Path | None, *, detailed: bool) -> int:
    """Show the plan. Returns 1 when a project is invalid, 3 with `detailed` when there is something to do, else 0."""
    with asked(invocation, path) as found:
        planned = preview(found.question, found.seen)
        services = changes(found.seen.cluster, planned.after)
        actions = action_views(planned.actions)
        invalid = [str(problem) for problems in found.seen.desired.invalid.values() for problem in problems]
        if invocation.json:
            show_json(_document(found, planned, services, actions, invalid))
        else:
            show(_page(found, planned, services, actions, invalid))
    if invalid:
        return codes.INVALID
    return codes.PENDING if detailed and _busy(services, actions) else codes.CONVERGED


def _busy(services: tuple[ChangeView, ...], actions: tuple[ActionView, ...]) -> bool:
    return bool(actions) or any(view.change not in (None, "held") for view in services)


def _page(
    found: Asked, planned: Preview, services: tuple[ChangeView, ...], actions: tuple[ActionView, ...], invalid: list[str]
) -> Page:
    seen = found.seen
    notes = [*plan_notes(services, actions)]
    notes += [Note("invalid, so its project stays as it is", line, "bad") for line in invalid]
    if planned.after.brake:
        notes.append(Note("brake", planned.after.brake, "bad"))
    unknown = unknown_revisions(seen.cluster, seen.desired)
    if unknown:
        text = f"the config of what is live at {', '.join(unknown)} is not at hand here; what changes is known in part only"
        notes.append(Note("not known", text, "warn"))
    if seen.unread:
        names = ", ".join(seen.unread)
        notes.append(
            Note("not known", f"what {names} has loaded could not be asked from here; run this as root on the server", "warn")
        )
    if found.question.site.server not in planned.after.members:
        text = (
            f"{found.question.site.server} is no member yet: a member lets it join first, and then it starts what is placed on it"
        )
        notes.append(Note("membership", text, "warn"))
    changing = [view for view in services if view.change not in (None, "held")]
    summary = f"{counted(len(changing), 'service')} of {len(services)} would change." if changing else "No service would change."
    if not _busy(services, actions):
        held = any(view.held for view in services)
        summary = "Nothing to do: what is desired is held back." if held else "Nothing to do: what runs is what is desired."
    elif not changing:
        summary = "No service would change; something is put right."
    title = f"{found.question.site.server} at {seen.desired.revision}; what is live is known from {found.where}"
    return Page(title, plan_table(services), tuple(notes), summary, "warn" if _busy(services, actions) else "good")


def _document(
    found: Asked, planned: Preview, services: tuple[ChangeView, ...], actions: tuple[ActionView, ...], invalid: list[str]
) -> dict[str, object]:
    return {
        "server": found.question.site.server,
        "config": found.seen.desired.revision.model_dump(),
        "known_from": found.where,
        "changes": _busy(services, actions),
        "services": [asdict(view) for view in services],
        "reasons": list(planned.reasons),
        "actions": [asdict(view) for view in actions],
        "brake": planned.after.brake,
        "invalid": invalid,
        "not_asked": list(found.seen.unread),
    }


def unknown_revisions(cluster: ClusterState, desired: Desired) -> tuple[str, ...]:
    """Short ids of the commits whose description of what is live could not be read."""
    live = {name: state.live for name, state in cluster.services.items() if state.live is not None}
    return tuple(
        sorted({at.revision[:7] for name, at in live.items() if desired.service_at(ServiceKey.parse(name), at.spec) is None})
    )
