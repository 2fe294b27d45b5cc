"""`reconcile diff [PATH]`: what is desired against what is live here, field by field, and what was changed by hand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from reconciler.commands import codes
from reconciler.commands.asking import asked
from reconciler.commands.invocation import Invocation
from reconciler.commands.output import show, show_json
from reconciler.engine.preview import Seen
from reconciler.model.identity import ServiceKey
from reconciler.render.terminal import Note, Page, counted
from reconciler.render.terminal_diff import ServiceDifference, compare, difference_note


def diff(invocation: Invocation, path: Path | None, *, detailed: bool) -> int:
    """Show the differences. Returns 1 when a project is invalid, 3 with `detailed` when anything differs, else 0."""
    with asked(invocation, path) as found:
        seen = found.seen
    differences = tuple(_one(seen, name) for name in sorted({*map(str, seen.desired.services), *seen.cluster.services}))
    differing = [one for one in differences if one.kind != "same"]
    invalid = [str(problem) for problems in seen.desired.invalid.values() for problem in problems]
    if invocation.json:
        show_json(
            {
                "config": seen.desired.revision.model_dump(),
                "services": [asdict(one) for one in differences],
                "invalid": invalid,
            }
        )
    else:
        shown = differing if not invocation.verbose else differences
        notes = [difference_note(one, _revision(seen, one.service)) for one in shown]
        notes += [Note("invalid, so its project stays as it is", line, "bad") for line in invalid]
        many = f"{counted(len(differing), 'service')} of {len(differences)}"
        summary = f"{many} {'differs' if len(differing) == 1 else 'differ'}." if differing else "No difference."
        title = f"live here -> desired at {seen.desired.revision}"
        show(Page(title, notes=tuple(notes), summary=summary, tone="warn" if differing else "good"))
    if invalid:
        return codes.INVALID
    return codes.PENDING if detailed and differing else codes.CONVERGED


def _one(seen: Seen, name: str) -> ServiceDifference:
    key = ServiceKey.parse(name)
    state = seen.cluster.services.get(name)
    live = state.live if state is not None else None
    desired = seen.desired.services.get(key)
    described = seen.desired.service_at(key, live.spec) if live is not None else None
    drift = [
        f"{container.name}: {what}"
        for container in seen.observed.containers
        if container.labels.service == key
        for what in container.drift
    ]
    return compare(name, described, desired, runs=live is not None, drift=tuple(drift))


def _revision(seen: Seen, name: str) -> str:
    state = seen.cluster.services.get(name)
    return state.live.revision if state is not None and state.live is not None else ""
