"""`reconcile status [SERVICE]`: what is live where, what is under way, what is held back and why."""

from __future__ import annotations

import time
from dataclasses import asdict

from reconciler.commands import codes
from reconciler.commands.invocation import Invocation
from reconciler.commands.output import clear, console, show, show_json
from reconciler.commands.reading import Reading, known_service, reading
from reconciler.render.terminal import Note, Page
from reconciler.render.terminal_services import ServiceView, service_notes, service_table, views
from reconciler.render.terminal_status import member_notes, member_table, members

EVERY = 2.0


def status(invocation: Invocation, service: str | None, *, watch: bool) -> int:
    """Show the status; with `watch` again and again until interrupted. Always 0 when it could be read."""
    while True:
        settings = invocation.settings()
        with reading(invocation, settings) as read:
            if watch and not invocation.json:
                clear()
            _show(invocation, read, service)
        if not watch:
            return codes.CONVERGED
        time.sleep(EVERY)


def _show(invocation: Invocation, read: Reading, asked: str | None) -> None:
    cluster = read.cluster
    if cluster is None:
        text = "no decision has been made yet: run `reconcile --once` or `reconcile run` on a server"
        if invocation.json:
            show_json({"known_from": read.where, "services": [], "members": [], "generation": None})
        else:
            show(Page(summary=text, tone="warn"))
        return
    service = known_service(cluster, asked)
    revisions = {state.live.revision for state in cluster.services.values() if state.live is not None}
    subjects = {revision: read.subject(revision) for revision in revisions}
    found = tuple(view for view in views(cluster, subjects) if service in (None, view.service))
    servers = members(cluster, read.reports)
    if invocation.json:
        conditions = {
            name: [c.model_dump(mode="json", exclude_none=True) for c in r.conditions] for name, r in read.reports.items()
        }
        show_json(
            {
                "known_from": read.where,
                "config": {"revision": cluster.config, "subject": read.subject(cluster.config)},
                "generation": cluster.generation,
                "brake": cluster.brake,
                "services": [asdict(view) for view in found],
                "members": [asdict(view) for view in servers],
                "conditions": conditions,
            }
        )
        return
    show(_page(read, found, service))
    if service is None:
        console().print()
        show(Page(table=member_table(cluster, servers)))


def _page(read: Reading, found: tuple[ServiceView, ...], service: str | None) -> Page:
    cluster = read.cluster
    assert cluster is not None
    notes = [*service_notes(found), *member_notes(cluster, read.reports, service)]
    notes += [Note("unreadable", condition.message, "bad") for condition in read.unreadable]
    subject = read.subject(cluster.config)
    title = f"config {cluster.config[:7]}" + (f' "{subject}"' if subject else "")
    title += f", generation {cluster.generation}, from {read.where}"
    settled = all(view.settled for view in found)
    rest = "" if settled else "Not everything that is desired is live."
    return Page(
        title, service_table(found), tuple(notes), rest or "Everything that is desired is live.", "good" if settled else "warn"
    )
