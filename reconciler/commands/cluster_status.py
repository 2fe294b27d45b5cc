"""`reconcile status --cluster`: the whole cluster from anywhere that can read its repository. Only Git is asked."""

from __future__ import annotations

import time
from dataclasses import asdict

from reconciler.commands import codes
from reconciler.commands.chronicle import look
from reconciler.commands.invocation import Invocation
from reconciler.commands.output import clear, console, show, show_json
from reconciler.commands.reading import cloned, service_of
from reconciler.errors import Invalid, Problem
from reconciler.model.overview import Overview
from reconciler.render.terminal_overview import pages

EVERY = 5.0


def cluster_status(invocation: Invocation, service: str | None, *, watch: bool, everything: bool, detailed: bool) -> int:
    """Show it; with `watch` again and again from the same clone until interrupted.

    Returns 2 when there is no readable decision, 3 with `detailed` when anything is not in order, else 0. Raises Invalid without a
    repository, Transient when it cannot be read.
    """
    settings = invocation.settings()
    if settings.repo is None:
        message = "is not set: give --repo URL, the config repository as `git clone` takes it; nothing else is needed"
        raise Invalid([Problem("repo", 0, 0, message)])
    with cloned(settings) as git:
        while True:
            found = look(git, git.fetch(), int(time.time()))
            name = service_of([glance.service for glance in found.services], service)
            if watch and not invocation.json:
                clear()
            _show(invocation, found, name, everything=everything)
            if not watch:
                break
            time.sleep(EVERY)
    if found.generation is None:
        return codes.FAILED
    return codes.PENDING if detailed and not found.in_order else codes.CONVERGED


def _show(invocation: Invocation, found: Overview, service: str | None, *, everything: bool) -> None:
    if invocation.json:
        show_json(document(found, service))
        return
    for number, page in enumerate(pages(found, everything=everything, service=service)):
        if number and (page.title or page.table or page.summary):  # notes begin with an empty line of their own
            console().print()
        show(page)


def document(found: Overview, service: str | None = None) -> dict[str, object]:
    """The overview as JSON: always everything, or of one service what concerns it."""
    whole = asdict(found)
    for name, glances in (("servers", found.servers), ("services", found.services)):
        whole[name] = [asdict(glance) | {"in_order": glance.in_order} for glance in glances]
    whole["services"] = [one for one in whole["services"] if service in (None, one["service"])]
    return {"in_order": found.in_order, **whole}
