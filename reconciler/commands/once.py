"""`reconcile --once`: bring this server to what is desired, wait until it is there, say what happened."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from reconciler.commands import codes
from reconciler.commands.invocation import Invocation
from reconciler.commands.output import show, show_json
from reconciler.commands.progress import Progress
from reconciler.effects.journal import StateLock
from reconciler.engine.cycle import Cycle
from reconciler.engine.jobs import ThreadJobs
from reconciler.engine.loop import Settled, Wake, until_settled
from reconciler.engine.polling import POLL_JOB
from reconciler.engine.wiring import Wired, required, wire
from reconciler.engine.world import Outcome
from reconciler.errors import Invalid, ReconcilerError, Stalled, Transient
from reconciler.model.cluster import ClusterState
from reconciler.model.report import Condition
from reconciler.render.terminal import Note, Page, counted
from reconciler.render.terminal_services import ServiceView, condition_notes, happened, service_notes, service_table, views

PATIENCE = 30.0
"""Seconds for which something that may pass by itself (Docker restarting, a push refused) is tried again before giving up."""

OWN_TYPES = ("Ready", "ConfigValid", "ConfigFollowed", "Warning", "Brake")
"""Conditions that are no failed steps of this server."""


@dataclass(frozen=True)
class Ended:
    """How the run ended. `problem`: why nothing more could be done."""

    cluster: ClusterState | None
    services: tuple[ServiceView, ...]
    invalid: tuple[str, ...]
    conditions: tuple[Condition, ...]
    revision: str
    subject: str
    timed_out: bool
    problem: ReconcilerError | None

    @property
    def code(self) -> int:
        """The exit code: first what nobody but a person can mend."""
        if isinstance(self.problem, Invalid):
            return codes.INVALID
        if self.problem is not None or self.failures:
            return codes.FAILED
        if self.invalid:
            return codes.INVALID
        braked = self.cluster is not None and self.cluster.brake is not None
        held = any(condition.type == "ConfigFollowed" and not condition.status for condition in self.conditions)
        pending = self.timed_out or braked or held or not all(view.settled for view in self.services)
        return codes.PENDING if pending else codes.CONVERGED

    @property
    def failures(self) -> tuple[Condition, ...]:
        """Steps that went wrong and are tried again by the next run."""
        return tuple(c for c in self.conditions if not c.status and c.type not in OWN_TYPES)


def once(invocation: Invocation, timeout: float) -> int:
    """Run passes until nothing is left to do, at most `timeout` seconds. Returns the exit code. Raises what `wire` raises."""
    settings = invocation.settings()
    required(settings)
    lock = StateLock(settings.state_dir, "reconcile --once")
    wake = Wake()
    try:
        with Progress(quiet=invocation.quiet, verbose=invocation.verbose) as progress:
            progress.wait("reading the config repository")
            wired = wire(settings, wake.ring, progress.say, progress.watch)
            try:
                wired.docker.ping()
                ended = _run(wired, wake, timeout, progress)
            finally:
                wired.close()
    finally:
        lock.release()
    if invocation.json:
        show_json(document(ended))
    else:
        show(page(ended))
    if ended.problem is not None:
        raise ended.problem
    return ended.code


def _run(wired: Wired, wake: Wake, timeout: float, progress: Progress) -> Ended:
    before = wired.cycle.cluster
    follow = _Follow(wired.cycle, wired.jobs, progress)
    problem: ReconcilerError | None = None
    settled: Settled | None = None
    try:
        settled = until_settled(wired.cycle, wired.jobs, wake, timeout=timeout, progress=follow.passed)
        problem = settled.outcome.problem
    except ReconcilerError as error:
        problem = error
    cluster, desired, report = wired.cycle.cluster, wired.cycle.desired, wired.cycle.report
    changes: Mapping[str, str] = happened(before, cluster, progress.said) if cluster is not None else {}
    subjects = {desired.revision.sha: desired.revision.subject} if desired is not None else {}
    invalid = [str(p) for problems in desired.invalid.values() for p in problems] if desired is not None else []
    conditions = report.conditions if report is not None else ()
    unread = [c.message for c in conditions if c.type == "ConfigValid" and c.service is None]
    return Ended(
        cluster=cluster,
        services=views(cluster, subjects, changes) if cluster is not None else (),
        invalid=tuple(sorted({*invalid, *(unread if not invalid else ())})),
        conditions=conditions,
        revision=desired.revision.sha if desired is not None else "",
        subject=desired.revision.subject if desired is not None else "",
        timed_out=settled is not None and settled.timed_out,
        problem=problem,
    )


class _Follow:
    """Looks at each pass: shows what is new, and ends the run when waiting longer is of no use."""

    def __init__(self, cycle: Cycle, jobs: ThreadJobs, progress: Progress) -> None:
        self._cycle = cycle
        self._jobs = jobs
        self._progress = progress
        self._preparing: set[str] = set()
        self._failing_since: float | None = None

    def passed(self, outcome: Outcome) -> None:
        """Raises the problem that does not pass."""
        self._images()
        if outcome.active:
            self._progress.wait("; ".join(f"{name} {what}" for name, what in outcome.active.items()))
        elif self._cycle.publisher.pending:
            self._progress.wait("publishing the status")
        problem = outcome.problem
        if isinstance(problem, Invalid | Stalled) and self._cycle.poll_error is None:
            raise problem
        unpublished = self._cycle.publisher.error
        if problem is None and unpublished is not None and not outcome.active and not outcome.busy:
            problem = Transient(f"everything else is done, but the status cannot be pushed: {unpublished}")
        if problem is None or (self._cycle.desired is None and self._jobs.running(POLL_JOB)):
            self._failing_since = None  # a first clone has its own time limit
            return
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since >= PATIENCE:
            raise problem

    def _images(self) -> None:
        observed = self._cycle.observed
        now = {name for name, state in observed.images.items() if state.status == "preparing"} if observed is not None else set()
        for name in sorted(now - self._preparing):
            self._progress.step(f"prepare image {name}")
            self._progress.wait(f"preparing image {name}")
        self._preparing = now


def page(ended: Ended) -> Page:
    """For people."""
    notes = list(service_notes(ended.services))
    notes += [Note("invalid", line, "bad") for line in ended.invalid]
    notes += condition_notes(c for c in ended.conditions if c.type != "ConfigValid" and c.type != "Ready")
    at = f"{ended.revision[:7]} {ended.subject!r}" if ended.revision else "no revision"
    summary = {
        codes.CONVERGED: f"Converged at {at}: {counted(len(ended.services), 'service')}.",
        codes.INVALID: f"At {at}: what is invalid stays as it was; everything else was brought about.",
        codes.FAILED: f"At {at}: something could not be done; it is tried again by the next run.",
        codes.PENDING: f"Not converged yet at {at}: see above."
        + (" The time was up; the next run goes on from here." if ended.timed_out else ""),
    }[ended.code]
    if ended.problem is not None and not ended.services:
        summary = ""
    tone = {codes.CONVERGED: "good", codes.PENDING: "warn"}.get(ended.code, "bad")
    table = service_table(ended.services, with_happened=True)
    return Page(table=table, notes=tuple(notes), summary=summary, tone="good" if tone == "good" else "warn")


def document(ended: Ended) -> dict[str, object]:
    """For programs."""
    return {
        "converged": ended.code == codes.CONVERGED,
        "exit_code": ended.code,
        "config": {"revision": ended.revision, "subject": ended.subject},
        "generation": ended.cluster.generation if ended.cluster is not None else None,
        "services": [asdict(view) for view in ended.services],
        "invalid": list(ended.invalid),
        "brake": ended.cluster.brake if ended.cluster is not None else None,
        "conditions": [condition.model_dump(mode="json", exclude_none=True) for condition in ended.conditions],
        "timed_out": ended.timed_out,
        "problem": str(ended.problem) if ended.problem is not None else None,
    }
