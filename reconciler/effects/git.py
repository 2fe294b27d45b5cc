"""The Git adapter: one bare clone, one fetch per poll, reading without a work tree, compare-and-swap pushes (DESIGN section 5).

Whatever happens to the clone, the next `open` and `fetch` succeed if the remote answers; whatever the remote does, every call
ends in time. What a push did is seen in the history that a fetch brings, never in what git says about it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from reconciler.effects.git_clone import CONFIG, KEPT, PUSHED, SEEN, STATUS
from reconciler.effects.git_failure import explain, is_local
from reconciler.effects.git_fetch import Fetcher
from reconciler.effects.git_objects import Missing
from reconciler.effects.git_reader import GitReader
from reconciler.effects.git_settings import GitSettings
from reconciler.effects.process import Completed, TimedOut
from reconciler.errors import Transient
from reconciler.model.revision import Landed, PushResult, Refs, RefUpdate, Rejected, Rewrite, Stale, Unknown

_NAME = re.compile(r"^[A-Za-z0-9_](?:[A-Za-z0-9_.-]|/(?![./-]))*$")
_LOOSE_OBJECTS_MAX = 3_000
_PACKS_MAX = 40
_COLLECTION_INTERVAL_S = 3600.0
_ACCEPTED = (" ", "*", "+", "=")


class GitRepository(GitReader):
    """The config and status branches, through a clone at `path`.

    This process alone may use it (the caller holds the state directory's lock), one thread at a time.
    """

    def __init__(self, path: Path, settings: GitSettings) -> None:
        super().__init__(path, settings)
        self._collect_after = 0.0
        self._fetcher = Fetcher(self._clone, self._objects, self._command, settings)

    def open(self) -> None:
        """Make the clone, or clean and repair it. Touches no network. Raises Transient if the directory cannot be used."""
        with self._files():
            self._clone.prepare(self._fetcher.urls())
            self._objects.reopen()

    def fetch(self) -> Refs:
        """Ask the remotes for the config branch and the status branches, and return what there is.

        Repairs a damaged clone by itself, once. Raises Transient (mostly GitUnavailable, with its reason) if a remote cannot be
        used; the refs of the last successful fetch then remain readable.
        """
        with self._files():
            lost = self._fetcher.bring()
            self._collect_garbage()
            refs = self._clone.refs()
            config, seen = refs[CONFIG], refs.get(SEEN)
            rewritten = seen is not None and not self.is_ancestor(seen, config)
            if seen != config:
                self._set_refs({SEEN: config})
            return Refs(
                config=config,
                status=_below(refs, STATUS),
                forced=Rewrite(seen, config) if seen is not None and rewritten else None,
                stale=self._stale(_below(refs, PUSHED), _below(refs, STATUS)),
                lost=lost,
            )

    def known(self) -> Refs | None:
        """What the last successful fetch found, without asking anybody; None when there was none."""
        with self._files():
            refs = self._clone.refs()
        return Refs(config=refs[CONFIG], status=_below(refs, STATUS)) if CONFIG in refs else None

    def keep(self, name: str, sha: str) -> None:
        """Hold on to a revision under a name, whatever becomes of the branches. Raises Transient if it is not in the clone."""
        with self._readable(sha):
            self._objects.commit(sha)
        with self._files():
            if self._clone.refs(KEPT).get(KEPT + _checked(name)) != sha:
                self._set_refs({KEPT + name: sha})

    def drop(self, name: str) -> None:
        """Let go of a kept revision. Dropping what is not kept does nothing."""
        self._delete(KEPT + _checked(name))

    def kept(self) -> Mapping[str, str]:
        """The kept revisions by name."""
        with self._files():
            return _below(self._clone.refs(KEPT), KEPT)

    def accept(self, ref: str) -> None:
        """Believe the status ref that `Refs.stale` names as it is: forget what this server last pushed to it."""
        self._delete(PUSHED + _checked(ref))

    def commit(
        self,
        files: Mapping[str, bytes],
        parent: str | None,
        message: str,
        *,
        author: str,
        when: int,
        merges: str | None = None,
    ) -> str:
        """Write a commit that holds exactly `files`, by path, and return its id. Nothing refers to it before it is pushed.

        `author` is this server's name, `when` its time in seconds since 1970. merges: one more commit that it comes from. The same
        arguments give the same id.
        """
        with self._files():
            parents = [sha for sha in (parent, merges) if sha is not None]
            return self._objects.write_commit(files, parents, message, author=author, when=when)

    def push(self, updates: Sequence[RefUpdate]) -> Mapping[str, PushResult]:
        """Compare-and-swap status refs in one push, each on its own: the result of each by `RefUpdate.ref`.

        Raises ValueError for a commit whose first parent is not `expected_old`, or that compacts nothing; never for what the
        remote does.
        """
        for update in updates:
            self._check(update)
        if not updates:
            return {}
        with self._files():
            accepted, reason = self._push(updates)
            open_questions = [update for update in updates if update.ref not in accepted]
            results: dict[str, PushResult] = {ref: Landed() for ref in accepted}
            if open_questions:
                results |= self._ask(open_questions, reason)
            new = {update.ref: update.new for update in updates if isinstance(results[update.ref], Landed)}
            record: dict[str, str | None] = {PUSHED + ref: sha for ref, sha in new.items()}
            record |= {STATUS + ref: new[ref] for ref in accepted}
            with suppress(Transient):  # what has landed has landed, even if the disk is full; the next fetch sees it
                self._set_refs(record)
            return results

    def _push(self, updates: Sequence[RefUpdate]) -> tuple[frozenset[str], str]:
        """The refs that the remote says it has moved, and why others may not have been."""
        branches = {f"refs/heads/{self._settings.status_branch_prefix}{update.ref}": update for update in updates}
        leases = [f"--force-with-lease={branch}:{update.expected_old or ''}" for branch, update in branches.items()]
        wishes = [f"{update.new}:{branch}" for branch, update in branches.items()]
        try:
            remote = self._settings.status_remote()
            arguments = ("push", "--porcelain", "--no-verify", *leases, "--", remote.name, *wishes)
            done = self._command.run(self._clone.path, *arguments, remote=remote)
        except TimedOut:
            return frozenset(), f"cannot push to {remote.url} within {self._settings.timeout_s:g} s; check the network"
        except Transient as error:
            return frozenset(), str(error)
        if done.code != 0 and is_local(done.stderr_tail):
            self._clone.mark_damaged()
        accepted = frozenset(branches[branch].ref for branch in _accepted(done) & branches.keys())
        return accepted, str(explain("push to", remote.url, done.stderr_tail))

    def _ask(self, updates: Sequence[RefUpdate], reason: str) -> dict[str, PushResult]:
        """What became of pushes whose outcome is open: fetch, and look whether the tip contains the commit. FAULTS 33."""
        try:
            self._fetcher.bring(status_only=True)
            tips = _below(self._clone.refs(STATUS), STATUS)
            return {update.ref: self._became_of(update, tips.get(update.ref), reason) for update in updates}
        except Transient as error:
            return {update.ref: Unknown(f"{reason}; then {error}") for update in updates}

    def _became_of(self, update: RefUpdate, tip: str | None, reason: str) -> PushResult:
        if tip is not None and self.is_ancestor(update.new, tip):
            return Landed()
        try:
            self._objects.size(update.new)
        except Missing:  # the clone was damaged and is new: the commit has to be written again
            return Rejected(tip)
        if tip == update.expected_old:
            return Unknown(reason)
        if tip is not None and update.expected_old is not None and self.is_ancestor(tip, update.expected_old):
            return Unknown(f"{reason}; the remote answers an older view")
        return Rejected(tip)

    def _check(self, update: RefUpdate) -> None:
        _checked(update.ref)
        parents = self.commit_info(update.new).parents
        if update.compacts:
            if update.expected_old is None or self.is_ancestor(update.expected_old, update.new):
                raise ValueError(
                    f"{update.new[:10]} for {update.ref} replaces no history; expected one without {update.expected_old}"
                )
        elif list(parents) != [sha for sha in (update.expected_old, update.merges) if sha is not None]:
            raise ValueError(f"{update.new[:10]} for {update.ref} has parents {parents}; expected {update.expected_old} alone")

    def _stale(self, pushed: Mapping[str, str], status: Mapping[str, str]) -> dict[str, Stale]:
        """The refs that lack our last push. FAULTS 38: nothing is planned from a view older than our own last write."""
        stale = {}
        for ref, ours in pushed.items():
            tip = status.get(ref)
            if self._settings.status and (tip is None or not self.is_ancestor(ours, tip)):
                stale[ref] = Stale(ours, tip, behind=tip is None or self.is_ancestor(tip, ours))
        return stale

    def _set_refs(self, refs: Mapping[str, str | None]) -> None:
        """Write refs of ours. A lock in the way is left over (from a git that was out of time), as nobody else writes here."""
        try:
            self._command.set_refs(self._clone.path, refs)
        except Transient:
            if not self._clone.clear_left_overs():
                raise
            self._command.set_refs(self._clone.path, refs)

    def _delete(self, ref: str) -> None:
        with self._files():
            if ref in self._clone.refs(ref):
                self._set_refs({ref: None})

    def _collect_garbage(self) -> None:
        """Pack what many small fetches left. What is younger than two hours stays: it may be a commit about to be pushed."""
        loose = sum(1 for file in self._clone.objects.glob("[0-9a-f][0-9a-f]/*"))
        packs = sum(1 for file in self._clone.objects.glob("pack/*.pack"))
        if (loose > _LOOSE_OBJECTS_MAX or packs > _PACKS_MAX) and time.monotonic() >= self._collect_after:
            self._collect_after = time.monotonic() + _COLLECTION_INTERVAL_S
            try:
                self._command.run(self._clone.path, "gc", "--quiet", "--prune=2.hours.ago")
            except Transient:
                self._clone.clear_left_overs()
            self._objects.reopen()


def _accepted(done: Completed) -> frozenset[str]:
    """The refs for which the porcelain lines (flag, from:to, summary; separated by tabs) report success."""
    lines = [line.split("\t") for line in done.stdout.decode(errors="replace").splitlines()]
    return frozenset(line[1].rpartition(":")[2] for line in lines if len(line) == 3 and line[0] in _ACCEPTED)


def _below(refs: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {ref.removeprefix(prefix): sha for ref, sha in refs.items() if ref.startswith(prefix)}


def _checked(name: str) -> str:
    if not _NAME.match(name) or ".." in name or name.endswith((".lock", ".", "/")):
        raise ValueError(f"{name!r} cannot be the name of a ref")
    return name
