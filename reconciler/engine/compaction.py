"""Shortens the history of a status ref: its last commits on a new root, with the same content (DESIGN section 5).

What the ref says stays as it is, byte for byte, epoch and generation among it: whoever reads it goes on from there. The push is a
compare-and-swap like any other. Two that compact at once make the very same commits; a decision that lands meanwhile wins, and the
ref is compacted another time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from reconciler.model.revision import CommitInfo, Landed, PushResult, RefUpdate

KEPT = 500
"""Commits that stay: what `reconcile history` looks at."""
SHORTENED = "Shortened: what came before was removed"
"""The line in the message of a commit whose parents a compaction left out."""
_FILES = ("cluster.yaml", "README.md", "report.yaml")
_WRITER = re.compile(r"^Server: (\S+)$", re.MULTILINE)


class Git(Protocol):
    """What this needs of a clone: `effects.git.GitRepository` says what each does and raises."""

    def log(self, ref_or_sha: str, limit: int) -> list[CommitInfo]: ...
    def read_file(self, ref_or_sha: str, path: str) -> bytes | None: ...
    def commit(self, files: Mapping[str, bytes], parent: str | None, message: str, *, author: str, when: int) -> str: ...
    def push(self, updates: Sequence[RefUpdate]) -> Mapping[str, PushResult]: ...


def compact(git: Git, ref: str, tip: str, *, after: int) -> bool:
    """Compact a status ref whose `tip` has at least `after` commits. True when that has landed. Raises Transient."""
    history = git.log(tip, after)
    if len(history) < max(after, 2):
        return False
    new = shortened(git, history[: min(KEPT, after // 2)])
    return isinstance(git.push([RefUpdate(ref=ref, new=new, expected_old=tip, compacts=True)])[ref], Landed)


def shortened(git: Git, newest: Sequence[CommitInfo]) -> str:
    """These commits (the newest first) once more, the oldest of them without a parent. The same ones give the same tip."""
    parent: str | None = None
    for commit in reversed(newest):
        found = {path: git.read_file(commit.sha, path) for path in _FILES}
        files = {path: data for path, data in found.items() if data is not None}
        writer = _WRITER.search(commit.message)
        when = int(datetime.fromisoformat(commit.when_iso).timestamp())
        parent = git.commit(files, parent, _message(commit, parent), author=writer[1] if writer else "unknown", when=when)
    assert parent is not None
    return parent


def _message(commit: CommitInfo, parent: str | None) -> str:
    if parent is not None or not commit.parents or SHORTENED in commit.message:
        return commit.message
    return f"{commit.message.rstrip()}\n{SHORTENED}\n"
