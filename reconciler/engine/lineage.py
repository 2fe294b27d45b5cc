"""Whether the shared decision that was fetched has come from the one that this server follows (DESIGN section 6, Epoch).

Generations alone do not tell: a branch that somebody moved back by hand grows again, and soon has a number as high as the one that
was lost. Its history tells. A compaction (`engine/compaction.py`) makes other commits that say the same: those count as well.
"""

from __future__ import annotations

from typing import Protocol

from reconciler.engine.compaction import SHORTENED
from reconciler.engine.following import read_cluster
from reconciler.errors import Stalled, Transient
from reconciler.model.cluster import ClusterState
from reconciler.model.revision import CommitInfo

_FILE = "cluster.yaml"


class Git(Protocol):
    """What this needs of a clone: `effects.git.GitRepository` says what each does and raises."""

    def commit_info(self, sha: str) -> CommitInfo: ...
    def is_ancestor(self, ancestor: str, descendant: str) -> bool: ...
    def read_file(self, ref_or_sha: str, path: str) -> bytes | None: ...


def lacks(git: Git, tip: str, followed: str) -> bool:
    """Whether the history of `tip` lacks the decision of the commit `followed`. False when that cannot be known."""
    if tip == followed or git.is_ancestor(followed, tip):
        return False
    try:
        ours = git.read_file(followed, _FILE)
        known = read_cluster(ours)
    except (Transient, Stalled, ValueError):
        return False  # it is not in the clone any more, or not readable
    if known is None:
        return False
    unread = [tip]
    seen = set(unread)
    while unread:
        sha = unread.pop(0)
        content = _content(git, sha)
        if content == ours:
            return False
        if _is_before(content, known):
            continue  # nor can it be any further back
        commit = git.commit_info(sha)
        if not commit.parents and SHORTENED in commit.message:
            return False  # it may have been there
        unread.extend(parent for parent in commit.parents if parent not in seen)
        seen.update(commit.parents)
    return True


def _content(git: Git, sha: str) -> bytes | None:
    """What a commit says. One that is too large to be read is no server's, and must not end the poll."""
    try:
        return git.read_file(sha, _FILE)
    except Stalled:
        return None


def _is_before(content: bytes | None, known: ClusterState) -> bool:
    """Whether what is followed must have come later than this, if it had come at all."""
    try:
        found = read_cluster(content)
    except (Stalled, ValueError):
        return False
    if found is None:
        return False
    return found.epoch in known.superseded or (found.epoch == known.epoch and found.generation < known.generation)
