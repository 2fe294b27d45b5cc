"""Runs passes until something says stop: for `--once` until all is settled, for the daemon until the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from reconciler.engine.cycle import Cycle
from reconciler.engine.jobs import ThreadJobs
from reconciler.engine.world import Outcome
from reconciler.errors import Transient

IDLE = 0.2
PUSH_TRIES = 3


class Wake:
    """An alarm that other threads ring. Rings between two passes count once."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Ask for a pass."""
        self._event.set()

    def wait(self, seconds: float | None) -> bool:
        """Sleep until somebody rings or `seconds` are over; True when it rang."""
        rang = self._event.wait(seconds)
        self._event.clear()
        return rang


@dataclass(frozen=True)
class Settled:
    """How `--once` ended: `outcome` is the last pass's; `timed_out` tells that rollouts were still under way."""

    outcome: Outcome
    timed_out: bool


def until_settled(cycle: Cycle, jobs: ThreadJobs, wake: Wake, *, timeout: float, progress: Callable[[Outcome], None]) -> Settled:
    """Poll once, then pass after pass until nothing is left to do now, and everything has been pushed."""
    deadline = time.monotonic() + timeout
    polled = time.monotonic()
    cycle.recall()
    cycle.poll()
    while True:
        outcome = cycle.step(flush=True)
        progress(outcome)
        at_work = outcome.busy or jobs.busy() or bool(outcome.active) or cycle.deciding
        busy = at_work or cycle.publisher.pending
        failed = outcome.problem is not None and not jobs.busy()
        if not at_work and failed and cycle.poll_error is not None:
            return Settled(outcome, timed_out=False)
        if not at_work and cycle.publisher.failures >= PUSH_TRIES:
            unsaid = Transient(f"the status could not be pushed: {cycle.publisher.error}")
            return Settled(replace(outcome, problem=outcome.problem or unsaid), timed_out=False)
        if not busy and not failed:
            return Settled(outcome, timed_out=False)
        now = time.monotonic()
        if now >= deadline:
            return Settled(outcome, timed_out=True)
        if outcome.poll_in is not None and now >= polled + outcome.poll_in:
            polled = now
            cycle.poll()
        wake.wait(0.0 if outcome.busy else min(outcome.next_in or IDLE, IDLE))
