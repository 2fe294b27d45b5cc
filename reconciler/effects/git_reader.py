"""Reading the clone: trees, files and history of revisions that are there. Costs no subprocess but for ancestry."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconciler.effects.git_clone import ROOT, Clone
from reconciler.effects.git_command import GitCommand
from reconciler.effects.git_objects import Damaged, Missing, ObjectStore
from reconciler.effects.git_settings import GitSettings
from reconciler.effects.git_tree import DEFAULT_PREFIXES, find_file, walk_tree
from reconciler.errors import Transient
from reconciler.model.revision import CommitInfo, TreeEntry

_SHA_LENGTH = 40
_ANCESTRY_MAX = 4_096


class GitReader:
    """What the clone at `path` holds.

    `ref_or_sha` is `config`, `status/<name>`, `kept/<name>` or a commit's id. Every method raises Transient if the clone lacks
    the commit, or is damaged; in the latter case the next fetch makes it anew.
    """

    def __init__(self, path: Path, settings: GitSettings) -> None:
        self._clone = Clone(path.absolute())
        self._objects = ObjectStore(self._clone.objects)
        self._settings = settings
        self._command = GitCommand(settings)
        self._ancestry: dict[tuple[str, str], bool] = {}

    @property
    def objects(self) -> Path:
        """Where the clone's objects are."""
        return self._clone.objects

    def read_tree(self, revision: str, prefixes: Sequence[str] = DEFAULT_PREFIXES) -> Mapping[str, TreeEntry]:
        """The files of a revision by path: those that a prefix names, or that lie below one that ends with a slash.

        Raises Invalid for names that no config has, Stalled beyond `max_tree_entries`.
        """
        with self._readable(revision):
            tree = self._objects.commit(revision).tree
            return walk_tree(self._objects, tree, prefixes, self._settings.max_tree_entries)

    def read_blob(self, oid: str, limit: int | None = None) -> bytes:
        """The content of a file by the `oid` of its entry. Raises Stalled beyond `limit` (`max_blob_bytes`) bytes."""
        with self._readable(None):
            return self._objects.read(oid, "blob", self._settings.max_blob_bytes if limit is None else limit)

    def read_file(self, ref_or_sha: str, path: str) -> bytes | None:
        """One file; None if there is no such ref or file. A symlink is no file. Raises Stalled beyond `max_blob_bytes`."""
        sha = self._resolve(ref_or_sha)
        if sha is None:
            return None
        with self._readable(sha):
            oid = find_file(self._objects, self._objects.commit(sha).tree, path)
            return None if oid is None else self._objects.read(oid, "blob", self._settings.max_blob_bytes)

    def commit_info(self, sha: str) -> CommitInfo:
        """A commit's subject, message, author and time."""
        with self._readable(sha):
            return self._objects.commit(sha).info

    def log(self, ref_or_sha: str, limit: int) -> list[CommitInfo]:
        """The newest `limit` commits of a history, newest first, with full messages; empty if there is no such ref."""
        start = self._resolve(ref_or_sha)
        if start is None:
            return []
        found: list[CommitInfo] = []
        with self._readable(start):
            queue = [(-self._objects.commit(start).committed, 0, start)]
            known = {start}
            while queue and len(found) < limit:
                found.append(self._objects.commit(heapq.heappop(queue)[2]).info)
                for parent in found[-1].parents:
                    if parent not in known:
                        known.add(parent)
                        # the count keeps children before parents of the same second
                        heapq.heappush(queue, (-self._objects.commit(parent).committed, len(known), parent))
        return found

    def changed_between(self, old: str, new: str, prefixes: Sequence[str] = DEFAULT_PREFIXES) -> frozenset[str]:
        """The paths that were added, removed or changed from one revision to another."""
        before, after = self.read_tree(old, prefixes), self.read_tree(new, prefixes)
        return frozenset(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether `descendant` contains `ancestor` (a commit contains itself).

        False if `ancestor` is not in the clone: it holds the whole history of whatever it holds.
        """
        if ancestor == descendant:
            return True
        if (ancestor, descendant) not in self._ancestry:
            with self._readable(descendant):
                self._objects.commit(descendant)
            try:
                self._objects.size(ancestor)
            except Missing:
                return False
            except Damaged:
                pass  # git answers below, or fails
            done = self._command.run(self._clone.path, "merge-base", "--is-ancestor", ancestor, descendant)
            if done.code not in (0, 1):
                self._clone.mark_damaged()
                raise Transient(f"the history of {descendant[:10]} cannot be read; the next fetch makes the clone anew")
            if len(self._ancestry) >= _ANCESTRY_MAX:
                self._ancestry.clear()
            self._ancestry[ancestor, descendant] = done.code == 0
        return self._ancestry[ancestor, descendant]

    def count_between(self, old: str, new: str) -> int:
        """How many commits `new` contains that `old` does not."""
        with self._readable(None):
            for sha in (old, new):
                self._objects.commit(sha)
        done = self._command.run(self._clone.path, "rev-list", "--count", new, f"^{old}")
        if done.code != 0:
            self._clone.mark_damaged()
            raise Transient(f"the history of {new[:10]} cannot be read; the next fetch makes the clone anew")
        return int(done.stdout)

    def _resolve(self, ref_or_sha: str) -> str | None:
        if len(ref_or_sha) == _SHA_LENGTH and not ref_or_sha.strip("0123456789abcdef"):
            return ref_or_sha
        with self._files():
            return self._clone.refs().get(ROOT + ref_or_sha)

    @contextmanager
    def _readable(self, asked: str | None) -> Iterator[None]:
        """Turn what reading may raise into Transient. An object other than the one `asked` for that is missing is damage."""
        try:
            yield
        except Missing as error:
            if asked is not None and asked in str(error):
                raise Transient(f"{error}; fetch first") from error
            self._clone.mark_damaged()
            raise Transient(f"{error} although it should be; the next fetch makes the clone anew") from error
        except Damaged as error:
            self._clone.mark_damaged()
            raise Transient(f"{error}; the next fetch makes the clone anew") from error

    @contextmanager
    def _files(self) -> Iterator[None]:
        """Turn what the file system raises into Transient."""
        try:
            yield
        except OSError as error:
            raise Transient(
                f"cannot use the clone at {self._clone.path}: {error}; free the disk, or correct its owner and mode"
            ) from error
