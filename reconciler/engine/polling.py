"""Asks the remote, in the background, and keeps what it said last."""

from __future__ import annotations

from reconciler.engine.ports import ClockPort, GitPort, JobsPort, Snapshot
from reconciler.engine.turns import Pace
from reconciler.errors import ReconcilerError

POLL_JOB = "poll"
RECALL_JOB = "recall"
GIT_LANE = "git"


class Polling:
    """`snapshot`: the last one, None before the first; `error`: why the last poll did not bring what the remote has now."""

    def __init__(self, git: GitPort, jobs: JobsPort, clock: ClockPort, pace: Pace) -> None:
        self._git = git
        self._jobs = jobs
        self._clock = clock
        self._pace = pace
        self._asked_at = 0.0
        self.shown = 0.0
        """When the poll that the snapshot is from was asked for, on this machine's clock."""
        self._asked: frozenset[str] = frozenset()
        self.sought: frozenset[str] = frozenset()
        """Revisions whose files the last poll was asked for: what is not there now is not on the remote."""
        self.snapshot: Snapshot | None = None
        self.error: ReconcilerError | None = None

    def poll(self, needed: frozenset[str], followed: str | None, decision: str | None) -> bool:
        """Ask for a fetch in the background; False when one is under way.

        needed: revisions wanted besides the tip. followed, decision: the config revision and the commit of status/cluster of now.
        """
        asked = self._jobs.submit(POLL_JOB, lambda: self._git.poll(needed, followed, decision), lane=GIT_LANE)
        if asked:
            self._asked, self._asked_at = needed, self._clock.monotonic()
        return asked

    def recall(self, needed: frozenset[str], followed: str | None) -> None:
        """Ask for what the last fetch left, so that healing does not wait for a remote that does not answer."""
        self._asked = needed
        self._jobs.submit(RECALL_JOB, lambda: self._git.last(needed, followed), lane=GIT_LANE)

    def polled(self, result: object) -> Snapshot | None:
        """Take the result of a poll. None: it failed."""
        if isinstance(result, ReconcilerError):
            self.error = result
            return None
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, Snapshot)
        self.error = result.error
        self.shown = self._asked_at
        self._pace.polled(self._clock.monotonic() - self._asked_at)
        return self._took(result)

    def recalled(self, result: object) -> Snapshot | None:
        """Take the result of a recall. Whatever is wrong with the clone, the poll that follows repairs it or says so."""
        return self._took(result) if isinstance(result, Snapshot) else None

    def _took(self, snapshot: Snapshot) -> Snapshot:
        self.sought = self._asked
        self.snapshot = snapshot
        return snapshot
