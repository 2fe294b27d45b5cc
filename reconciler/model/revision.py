"""What Git holds, as data: revisions, trees, refs, and what became of a push.

A `sha` or `oid` is 40 lower-case hexadecimal digits. A status ref is named by what follows the status prefix: `lon1-a` for
`refs/heads/status/lon1-a`, `cluster` for the shared one. Nothing here can name a branch that people write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MODE_TREE = 0o040000
MODE_FILE = 0o100644
MODE_EXECUTABLE = 0o100755
MODE_SYMLINK = 0o120000
MODE_SUBMODULE = 0o160000


@dataclass(frozen=True)
class TreeEntry:
    """One file of a revision. Symlinks and submodules are entries too, told apart by `mode`, and never followed.

    `size` is in bytes; 0 for a submodule, whose `oid` names a commit that is elsewhere.
    """

    path: str
    mode: int
    oid: str
    size: int

    @property
    def is_file(self) -> bool:
        """True for a regular file, executable or not: the only thing that may be read as content."""
        return self.mode in (MODE_FILE, MODE_EXECUTABLE, 0o100664)


@dataclass(frozen=True)
class CommitInfo:
    """A commit for people and programs. `message` is whole, with trailers; `subject` is its first line, made printable."""

    sha: str
    parents: tuple[str, ...]
    subject: str
    message: str
    author_name: str
    when_iso: str


@dataclass(frozen=True)
class Rewrite:
    """The config branch was rewritten: `new` does not descend from `old`, the tip that the fetch before answered."""

    old: str
    new: str


@dataclass(frozen=True)
class Stale:
    """A status ref that lacks what this server last pushed to it (`ours`).

    `found` is the tip that was answered (None: no such branch). `behind` is True when `found` is older than `ours` or absent:
    a lagging replica, or a branch that was rewound or deleted; False when its history is another one (rewritten, compacted).
    Nothing may be planned from it until it catches up or the engine decides to `accept` it.
    """

    ours: str
    found: str | None
    behind: bool


@dataclass(frozen=True)
class Refs:
    """What one fetch found. `lost` names kept revisions that a damaged clone took with it and no remote could give back."""

    config: str
    status: Mapping[str, str]
    forced: Rewrite | None = None
    stale: Mapping[str, Stale] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class RefUpdate:
    """A wish to move status ref `ref` from `expected_old` (None: it must not exist) to the commit `new`.

    The first parent of `new` has to be `expected_old`. `compacts`: the history of `new` is another one, and replaces that one.
    merges: a commit that the ref had lost; `new` has it as its last parent.
    """

    ref: str
    new: str
    expected_old: str | None
    compacts: bool = False
    merges: str | None = None


@dataclass(frozen=True)
class Landed:
    """The remote has the commit."""


@dataclass(frozen=True)
class Rejected:
    """Somebody else moved the ref first, to `tip` (None: the branch does not exist). Decide again from there."""

    tip: str | None


@dataclass(frozen=True)
class Unknown:
    """The remote does not show the commit, yet it may still arrive. The same push may be repeated; `reason` is for people."""

    reason: str


PushResult = Landed | Rejected | Unknown
