"""Containers that ended because Docker or the whole machine did: no fault of the version that they run."""

from __future__ import annotations

from reconciler.model.observed import Container, Observed
from reconciler.plan.step import ATTEMPTS
from reconciler.plan.wanted import Wanted


def ended_with_the_machine(application: Container, observed: Observed) -> bool:
    """Whether its end may be no fault of the version, but of a stopped Docker or machine.

    Docker gives 255 to what ended with it, never to one alone. A stop in good order ends a pair's sidecar too; an instance without
    one is only known by the codes of a signal that was handled (0) or not (143, 137), which its own fault can have as well: see
    `step.ATTEMPTS`.
    """
    if application.running:
        return False
    others = [c for c in observed.containers if c.id != application.id and not c.running]
    if application.exit_code == 255 and any(c.exit_code == 255 for c in others):
        return True
    if application.namespace_of is not None:
        return any(c.id == application.namespace_of for c in others)
    return application.exit_code in (0, 137, 143)


def starts_anew(want: Wanted, application: Container | None, observed: Observed) -> bool:
    """Whether an instance that is being replaced in its slot was ended by an outage: nothing else serves, so it is made again.

    A staged one is not: what is live goes on without it, and the next attempt stages it.
    """
    if application is None or not want.gated or want.backend.role != "live" or application.status not in ("exited", "dead"):
        return False
    return ended_with_the_machine(application, observed) and observed.heals.get(want.instance.name, 0) < ATTEMPTS
