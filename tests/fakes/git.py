"""One server's clone of a Git host in memory, with the interface and the promises of `reconciler.effects.git.GitRepository`.

`tests/contract/test_git_contract.py` holds it equal to the real one. `Repository(FakeGit(...), server)` is a `GitPort`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from reconciler.effects.git_failure import GitUnavailable
from reconciler.effects.git_tree import DEFAULT_PREFIXES
from reconciler.errors import Stalled, Transient
from reconciler.model.revision import (
    MODE_SUBMODULE,
    CommitInfo,
    Landed,
    PushResult,
    Refs,
    RefUpdate,
    Rejected,
    Rewrite,
    Stale,
    TreeEntry,
    Unknown,
)
from tests.fakes.git_host import Commit, Host, Line, Outage, Verb

BLOB_LIMIT = 4 * 1024 * 1024
_NAME = re.compile(r"^[A-Za-z0-9_](?:[A-Za-z0-9_.-]|/(?![./-]))*$")


class FakeGit:
    """A clone. What it holds outlives the program (`open` is a start of it); a new FakeGit is a server that lost its disk.

    line, status_line: what the lines to the two hosts do. status_host: where the status branches are, if not at `host`.
    """

    def __init__(
        self, host: Host, *, line: Line = lambda verb: None, status_host: Host | None = None, status_line: Line | None = None
    ) -> None:
        self._host = host
        self._line = line
        self._status_host = status_host or host
        self._status_line = status_line or line
        self._objects = host.objects
        self._held: set[str] = set()
        self._blobs: dict[str, bytes] = {}
        self._config: str | None = None
        self._seen: str | None = None
        self._status: dict[str, str] = {}
        self._pushed: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        assert self._status_host.objects is host.objects, "both hosts of a world share its objects: Host(objects=other.objects)"

    def open(self) -> None:
        """The program starts."""

    def fetch(self) -> Refs:
        """Ask the hosts for the config branch and the status branches."""
        self._ask_line(self._line, "fetch", self._host)
        self._host.fetches += 1
        config = self._host.branches.get("main")
        if config is None:
            raise GitUnavailable(f"cannot fetch {self._host.url}: the branch does not exist", reason="BranchMissing")
        self._hold(config)
        self._config = config
        if self._status_host is not self._host:
            self._ask_line(self._status_line, "fetch", self._status_host)
        self._take_status()
        forced = None
        if self._seen is not None and not self.is_ancestor(self._seen, config):
            forced = Rewrite(self._seen, config)
        self._seen = config
        return Refs(config=config, status=dict(self._status), forced=forced, stale=self._stale())

    def known(self) -> Refs | None:
        """What the last fetch left."""
        return Refs(config=self._config, status=dict(self._status)) if self._config is not None else None

    def keep(self, name: str, sha: str) -> None:
        """Hold on to a revision under a name."""
        self._commit(sha)
        self._kept[_checked(name)] = sha

    def drop(self, name: str) -> None:
        """Let go of a kept revision."""
        self._kept.pop(_checked(name), None)

    def kept(self) -> Mapping[str, str]:
        """The kept revisions by name."""
        return dict(self._kept)

    def accept(self, ref: str) -> None:
        """Forget what this server last pushed to a ref."""
        self._pushed.pop(_checked(ref), None)

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
        """Write a commit that holds exactly `files`."""
        written = message.strip("\n") + "\n"
        sha = self._objects.write(
            files, [each for each in (parent, merges) if each is not None], written, f"reconciler <{author}>", when
        )
        self._hold_one(sha)
        return sha

    def push(self, updates: Sequence[RefUpdate]) -> Mapping[str, PushResult]:
        """Compare-and-swap status refs in one push, each on its own."""
        for update in updates:
            self._check(update)
        if not updates:
            return {}
        accepted, reason = self._push(updates)
        results: dict[str, PushResult] = {ref: Landed() for ref in accepted}
        open_questions = [update for update in updates if update.ref not in accepted]
        if open_questions:
            results |= self._ask(open_questions, reason)
        for update in updates:
            if isinstance(results[update.ref], Landed):
                self._pushed[update.ref] = update.new
            if update.ref in accepted:
                self._status[update.ref] = update.new
        return results

    # Reading

    def read_tree(self, revision: str, prefixes: Sequence[str] = DEFAULT_PREFIXES) -> Mapping[str, TreeEntry]:
        """The files of a revision by path: those that a prefix names, or that lie below one that ends with a slash."""
        found = {}
        for path, blob in self._commit(revision).files.items():
            if any(path.startswith(prefix) if prefix.endswith("/") else path == prefix for prefix in prefixes) or any(
                path + "/" == prefix for prefix in prefixes
            ):
                found[path] = TreeEntry(path, blob.mode, blob.oid, 0 if blob.mode == MODE_SUBMODULE else len(blob.data))
        return found

    def read_blob(self, oid: str, limit: int | None = None) -> bytes:
        """The content of a file by the `oid` of its entry."""
        if oid not in self._blobs:
            raise Transient(f"object {oid} is not in the clone although it should be")
        data = self._blobs[oid]
        most = BLOB_LIMIT if limit is None else limit
        if len(data) > most:
            raise Stalled(f"object {oid} has {len(data)} bytes; at most {most} are read", reason="TooLarge")
        return data

    def read_file(self, ref_or_sha: str, path: str) -> bytes | None:
        """One file; None if there is no such ref or file."""
        sha = self._resolve(ref_or_sha)
        if sha is None:
            return None
        blob = self._commit(sha).files.get(path)
        if blob is None or not TreeEntry(path, blob.mode, blob.oid, 0).is_file:
            return None
        return self.read_blob(blob.oid)

    def commit_info(self, sha: str) -> CommitInfo:
        """A commit's subject, message, author and time."""
        commit = self._commit(sha)
        subject = "".join(c if c.isprintable() else "?" for c in commit.message.lstrip("\n").partition("\n")[0])
        name = commit.author.partition(" <")[0]
        when = datetime.fromtimestamp(commit.when, UTC).isoformat()
        return CommitInfo(sha, commit.parents, subject, commit.message, name, when)

    def log(self, ref_or_sha: str, limit: int) -> list[CommitInfo]:
        """The newest `limit` commits of a history, newest first."""
        start = self._resolve(ref_or_sha)
        if start is None:
            return []
        self._commit(start)
        found = sorted(self._objects.history(start, lambda sha: False), key=lambda sha: self._age(sha))
        return [self.commit_info(sha) for sha in found[:limit]]

    def changed_between(self, old: str, new: str, prefixes: Sequence[str] = DEFAULT_PREFIXES) -> frozenset[str]:
        """The paths that were added, removed or changed."""
        before, after = self.read_tree(old, prefixes), self.read_tree(new, prefixes)
        return frozenset(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether `descendant` contains `ancestor`; False if `ancestor` is not in the clone."""
        if ancestor == descendant:
            return True
        self._commit(descendant)
        return ancestor in self._held and self._objects.is_ancestor(ancestor, descendant)

    # The two ends of the line

    def _ask_line(self, line: Line, verb: Verb, host: Host) -> Outage | None:
        """What the line does to a push; a fetch that fails raises."""
        outage = line(verb)
        if outage is not None and verb == "fetch":
            raise GitUnavailable(f"cannot fetch {host.url}: the line is down", reason=outage.reason)
        return outage

    def _push(self, updates: Sequence[RefUpdate]) -> tuple[frozenset[str], str]:
        """The refs that the host says it has moved, and why others may not have been."""
        host = self._status_host
        outage = self._ask_line(self._status_line, "push", host)
        if outage is None or outage.applied:
            host.pushes += 1
            host.during()
        reachable = updates if outage is None else updates[: outage.applied]
        moved = frozenset(u.ref for u in reachable if host.swap(f"status/{u.ref}", u.expected_old, u.new))
        reason = f"cannot push to {host.url}: " + ("the line is down" if outage is not None else "it was refused")
        return (moved if outage is None else frozenset()), reason

    def _ask(self, updates: Sequence[RefUpdate], reason: str) -> dict[str, PushResult]:
        """What became of pushes whose outcome is open: fetch, and look whether the tip contains the commit."""
        try:
            self._ask_line(self._status_line, "fetch", self._status_host)
        except GitUnavailable as error:
            return {update.ref: Unknown(f"{reason}; then {error}") for update in updates}
        self._take_status()
        return {update.ref: self._became_of(update, reason) for update in updates}

    def _became_of(self, update: RefUpdate, reason: str) -> PushResult:
        tip = self._status.get(update.ref)
        if tip is not None and self.is_ancestor(update.new, tip):
            return Landed()
        if tip == update.expected_old:
            return Unknown(reason)
        if tip is not None and update.expected_old is not None and self.is_ancestor(tip, update.expected_old):
            return Unknown(f"{reason}; the remote answers an older view")
        return Rejected(tip)

    def _take_status(self) -> None:
        branches = self._status_host.branches
        self._status = {name.removeprefix("status/"): sha for name, sha in branches.items() if name.startswith("status/")}
        for sha in self._status.values():
            self._hold(sha)

    def _stale(self) -> dict[str, Stale]:
        stale = {}
        for ref, ours in self._pushed.items():
            tip = self._status.get(ref)
            if tip is None or not self.is_ancestor(ours, tip):
                stale[ref] = Stale(ours, tip, behind=tip is None or self.is_ancestor(tip, ours))
        return stale

    def _check(self, update: RefUpdate) -> None:
        _checked(update.ref)
        parents = self.commit_info(update.new).parents
        if update.compacts:
            if update.expected_old is None or self.is_ancestor(update.expected_old, update.new):
                raise ValueError(f"{update.new[:10]} for {update.ref} replaces no history")
        elif list(parents) != [each for each in (update.expected_old, update.merges) if each is not None]:
            raise ValueError(f"{update.new[:10]} for {update.ref} has parents {parents}; expected {update.expected_old}")

    # What the clone holds

    def _hold(self, tip: str) -> None:
        for sha in self._objects.history(tip, self._held.__contains__):
            self._hold_one(sha)

    def _hold_one(self, sha: str) -> None:
        self._held.add(sha)
        self._blobs.update({blob.oid: blob.data for blob in self._objects[sha].files.values()})

    def _commit(self, sha: str) -> Commit:
        if sha not in self._held:
            raise Transient(f"object {sha} is not in the clone; fetch first")
        return self._objects[sha]

    def _resolve(self, ref_or_sha: str) -> str | None:
        if re.fullmatch("[0-9a-f]{40}", ref_or_sha):
            return ref_or_sha
        kind, _, name = ref_or_sha.partition("/")
        if kind == "config":
            return self._config
        return {"status": self._status, "kept": self._kept}[kind].get(name)

    def _age(self, sha: str) -> tuple[int, int]:
        commit = self._objects[sha]
        return (-commit.when, -commit.depth)


def _checked(name: str) -> str:
    if not _NAME.match(name) or ".." in name or name.endswith((".lock", ".", "/")):
        raise ValueError(f"{name!r} cannot be the name of a ref")
    return name
