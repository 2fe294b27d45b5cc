"""Bringing what the remotes have into the clone, and making the clone anew when it is the clone that fails."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from reconciler.effects.git_clone import CONFIG, KEPT, PUSHED, SEEN, STATUS, Clone
from reconciler.effects.git_command import GitCommand
from reconciler.effects.git_failure import GitUnavailable, explain, is_local
from reconciler.effects.git_objects import Damaged, Missing, ObjectStore
from reconciler.effects.git_settings import GitSettings, Remote
from reconciler.effects.process import TimedOut

_OPTIONS = ("--quiet", "--no-tags", "--prune", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")


@dataclass(frozen=True)
class _Failure:
    error: GitUnavailable
    local: bool


class Fetcher:
    """Fetches into one clone. At most one fetch per remote, plus one when something had to be repaired."""

    def __init__(self, clone: Clone, objects: ObjectStore, command: GitCommand, settings: GitSettings) -> None:
        self._clone = clone
        self._objects = objects
        self._command = command
        self._settings = settings
        self._verified: frozenset[str] = frozenset()

    def urls(self) -> dict[str, str]:
        """The URLs by name of remote, without credentials."""
        remotes = (self._settings.config_remote(), self._settings.status_remote())
        return {remote.name: remote.url for remote in remotes}

    def bring(self, *, status_only: bool = False) -> tuple[str, ...]:
        """Update the tracking refs. Returns the kept names that were lost (normally none). Raises GitUnavailable, OSError."""
        if not self._clone.complete:
            self._clone.prepare(self.urls())
            self._objects.reopen()
        if not self._clone.damaged:
            failure = self._fetch(self._clone, status_only)
            if failure is not None and self._clone.clear_left_overs():
                failure = self._fetch(self._clone, status_only)
            self._objects.reopen()
            if failure is None and self._tips_are_whole():
                return ()
            if failure is not None and not failure.local and self._git_can_read():
                raise failure.error
        return self._make_anew()

    def _fetch(self, clone: Clone, status_only: bool = False) -> _Failure | None:
        fresh = CONFIG not in clone.refs(CONFIG)
        timeout = self._settings.clone_timeout_s if fresh else self._settings.timeout_s
        for remote, refspecs in self._wanted(status_only):
            arguments = ("fetch", *_OPTIONS, "--", remote.name, *refspecs)
            try:
                done = self._command.run(clone.path, *arguments, remote=remote, timeout=timeout)
            except TimedOut:
                clone.clear_left_overs()
                advice = "the host does not answer in time; check the network"
                raise GitUnavailable(f"cannot fetch {remote.url} within {timeout:g} s: {advice}", reason="TimedOut") from None
            if done.code != 0:
                return _Failure(explain("fetch", remote.url, done.stderr_tail), is_local(done.stderr_tail))
        return None

    def _wanted(self, status_only: bool) -> list[tuple[Remote, list[str]]]:
        config = f"+refs/heads/{self._settings.branch}:{CONFIG}"
        status = f"+refs/heads/{self._settings.status_branch_prefix}*:{STATUS}*"
        if status_only:
            return [(self._settings.status_remote(), [status])]
        if not self._settings.status:
            return [(self._settings.config_remote(), [config])]
        if self._settings.status_url is None:
            return [(self._settings.config_remote(), [config, status])]
        return [(self._settings.config_remote(), [config]), (self._settings.status_remote(), [status])]

    def _git_can_read(self) -> bool:
        """Whether git itself can list the clone's refs and their commits: damage that no known word announced."""
        return self._command.run(self._clone.path, "for-each-ref", "--format=%(objecttype)").code == 0

    def _tips_are_whole(self) -> bool:
        """Whether each tip's commit and root tree can be read. Git believes an object that is merely there."""
        tips = frozenset(self._clone.refs(CONFIG).values()) | frozenset(self._clone.refs(STATUS).values())
        try:
            for sha in tips - self._verified:
                self._objects.tree(self._objects.commit(sha).tree)
        except (Missing, Damaged):
            return False
        self._verified = tips
        return True

    def _make_anew(self) -> tuple[str, ...]:
        """Fetch everything into a new clone beside the damaged one, carry over what is ours alone, and put it in its place.

        The damaged one stays until the new one is complete: with the remote away, what can be read can still be read.
        """
        fresh = Clone(self._clone.sibling("new"))
        shutil.rmtree(fresh.path, ignore_errors=True)
        fresh.lay_out(self.urls())
        failure = self._fetch(fresh)
        if failure is not None:
            raise failure.error
        carried: dict[str, str | None] = {}
        lost: list[str] = []
        for ref, sha in self._clone.refs().items():
            if ref.startswith((KEPT, PUSHED, SEEN)):
                if self._carried_over(fresh.path, sha):
                    carried[ref] = sha
                elif ref.startswith(KEPT):
                    lost.append(ref.removeprefix(KEPT))
        self._command.set_refs(fresh.path, carried)
        self._clone.replace_with(fresh)
        self._objects.reopen()
        self._verified = frozenset()
        return tuple(sorted(lost))

    def _carried_over(self, fresh: Path, sha: str) -> bool:
        """Whether the new clone has a commit: from the branches, else from the damaged clone, else from the remote by its id."""
        try:
            ObjectStore(fresh / "objects").commit(sha)
            return True
        except (Missing, Damaged):
            pass
        options = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--")
        for source, remote in ((str(self._clone.path), None), ("config", self._settings.config_remote())):
            try:
                if self._command.run(fresh, *options, source, sha, remote=remote).code == 0:
                    return True
            except TimedOut:
                continue
        return False
