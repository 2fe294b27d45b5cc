"""`reconcile history [SERVICE]`: what was decided, from the commits of status/cluster."""

from __future__ import annotations

from dataclasses import asdict

from reconciler.commands import codes
from reconciler.commands.invocation import Invocation
from reconciler.commands.output import show, show_json
from reconciler.commands.reading import known_service, reading
from reconciler.errors import Transient
from reconciler.render.terminal import Page
from reconciler.render.terminal_status import about, decision, history_notes

LOOKED_AT = 10_000


def history(invocation: Invocation, service: str | None, limit: int) -> int:
    """Show the newest `limit` decisions, of one service or of all. Raises Transient when there is no history at hand."""
    settings = invocation.settings()
    with reading(invocation, settings) as read:
        name = service
        if service is not None and service.count("/") != 2:
            name = known_service(read.cluster, service) if read.cluster is not None else service
        commits = read.decisions(limit if service is None else LOOKED_AT)
    if not commits:
        raise Transient(f"{read.where} has no status/cluster: nothing was decided yet, or `status: off` is set")
    found = [view for view in map(decision, commits) if about(view, name)][:limit]
    if invocation.json:
        show_json([asdict(view) for view in found])
    else:
        summary = "" if found else f"Nothing was decided about {name}."
        show(Page(notes=history_notes(found, name), summary=summary))
    return codes.CONVERGED
