"""A Git host in memory: one repository's history and branches, what people do to it, and the lines that lead there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reconciler.model.revision import MODE_FILE

Verb = Literal["fetch", "push"]
Content = bytes | tuple[int, bytes]  # a file's content, with its mode where it is not a plain file


@dataclass(frozen=True)
class Blob:
    """A file of a commit."""

    mode: int
    oid: str
    data: bytes


@dataclass(frozen=True)
class Commit:
    """A commit. `depth`: the length of the longest way to a root, so that no ancestor of another one is deeper than it."""

    sha: str
    parents: tuple[str, ...]
    files: Mapping[str, Blob]
    message: str
    author: str
    when: int
    depth: int


class Objects:
    """Every commit that was ever made, anywhere. A clone knows which of them it holds."""

    def __init__(self) -> None:
        self._commits: dict[str, Commit] = {}
        self._ancestry: dict[tuple[str, str], bool] = {}

    def __getitem__(self, sha: str) -> Commit:
        return self._commits[sha]

    def write(self, files: Mapping[str, Content], parents: Sequence[str], message: str, author: str, when: int) -> str:
        """Make a commit of exactly these files; the same arguments give the same id."""
        blobs = {path: _blob(files[path]) for path in sorted(files)}
        named = ((path, blob.mode, blob.oid) for path, blob in blobs.items())
        sha = hashlib.sha1(repr((*named, tuple(parents), message, author, when)).encode(), usedforsecurity=False).hexdigest()
        if sha not in self._commits:
            depth = 1 + max((self._commits[parent].depth for parent in parents if parent in self._commits), default=0)
            self._commits[sha] = Commit(sha, tuple(parents), blobs, message, author, when, depth)
        return sha

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether `descendant` contains `ancestor`; a commit contains itself."""
        if ancestor == descendant:
            return True
        found = self._ancestry.get((ancestor, descendant))
        if found is None:
            floor = self._commits[ancestor].depth
            found = any(sha == ancestor for sha in self.history(descendant, lambda sha: self._commits[sha].depth < floor))
            self._ancestry[ancestor, descendant] = found
        return found

    def history(self, tip: str, known: Callable[[str], bool]) -> Iterator[str]:
        """A commit and its ancestors, without those that are `known` and what lies behind them."""
        pending, seen = [tip], {tip}
        while pending:
            sha = pending.pop()
            if known(sha):
                continue
            yield sha
            fresh = [parent for parent in self._commits[sha].parents if parent not in seen]
            seen.update(fresh)
            pending.extend(fresh)


@dataclass(frozen=True)
class Outage:
    """The line to the host fails. A fetch brings nothing. Of a push, the first `applied` refs are moved before it breaks off.

    reason: the word of `GitUnavailable`.
    """

    reason: str = "Unreachable"
    applied: int = 0


Line = Callable[[Verb], Outage | None]
"""Asked at each fetch and push of one clone; an Outage to have it fail."""


@dataclass
class Host:
    """A repository on a Git host. `branches` are full names, such as `main` and `status/lon1-a`.

    during: called with each push that reaches the host, before it is looked at: whoever is faster. `pushes`, `fetches`: counts.
    """

    url: str = "https://git.example/config"
    objects: Objects = field(default_factory=Objects)
    branches: dict[str, str] = field(default_factory=dict)
    during: Callable[[], None] = lambda: None
    pushes: int = 0
    fetches: int = 0
    _clock: int = 1_700_000_000

    def commit(
        self,
        files: Mapping[str, Content],
        message: str,
        *,
        branch: str = "main",
        orphan: bool = False,
        parent: str = "",
        author: str = "Ann",
    ) -> str:
        """Somebody commits exactly these files on the tip of a branch, on another `parent`, or as new history."""
        base = None if orphan else parent or self.branches.get(branch)
        self._clock += 1
        self.branches[branch] = self.objects.write(files, [base] if base else [], message + "\n", author, self._clock)
        return self.branches[branch]

    def merge(self, other: str, *, branch: str = "main") -> str:
        """Somebody merges a commit into a branch; its files stay as they are."""
        tip = self.branches[branch]
        files = {path: (blob.mode, blob.data) for path, blob in self.objects[tip].files.items()}
        self._clock += 1
        self.branches[branch] = self.objects.write(files, [tip, other], "Merge\n", "Ann", self._clock)
        return self.branches[branch]

    def move(self, branch: str, sha: str | None) -> None:
        """Point a branch at any commit, as a forced push would; None deletes it."""
        self.branches.pop(branch, None)
        if sha is not None:
            self.branches[branch] = sha

    def tip(self, branch: str) -> str | None:
        """The branch's commit."""
        return self.branches.get(branch)

    def show(self, branch: str, path: str) -> bytes | None:
        """A file at the tip of a branch."""
        tip = self.branches.get(branch)
        blob = self.objects[tip].files.get(path) if tip is not None else None
        return blob.data if blob is not None else None

    def length(self, branch: str) -> int:
        """How many commits a branch has."""
        tip = self.branches.get(branch)
        return sum(1 for _ in self.objects.history(tip, lambda sha: False)) if tip is not None else 0

    def swap(self, branch: str, expected: str | None, new: str) -> bool:
        """What a push with a lease does to one branch: moves it if it is where it was expected to be, or there already."""
        tip = self.branches.get(branch)
        if tip != new and tip != expected:
            return False
        self.branches[branch] = new
        return True


def _blob(content: Content) -> Blob:
    mode, data = content if isinstance(content, tuple) else (MODE_FILE, content)
    return Blob(mode, hashlib.sha1(b"blob %d\0%s" % (len(data), data), usedforsecurity=False).hexdigest(), data)
