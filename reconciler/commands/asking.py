"""Puts the parts together that only look: for `plan` and `diff`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler import __version__
from reconciler.commands.invocation import Invocation
from reconciler.commands.reading import Reading, remote
from reconciler.effects.docker import Docker
from reconciler.effects.nginx import Nginx
from reconciler.effects.secrets import SecretsDirectory
from reconciler.effects.worktree import committed_files, find_root, read_worktree
from reconciler.engine.preview import Question, Seen, look
from reconciler.engine.requests import read_copy
from reconciler.engine.settings import Settings
from reconciler.engine.wiring import policy, site
from reconciler.errors import Invalid, Problem
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Revision
from reconciler.model.identity import ServiceKey
from reconciler.model.report import Report
from reconciler.model.source import Files

UNCOMMITTED = "working tree"
"""Stands where a commit's id would. Its first seven letters are shown."""


@dataclass(frozen=True)
class Asked:
    """A question, what was seen, and where the decision came from, in words."""

    question: Question
    seen: Seen
    where: str
    writes: int


@contextmanager
def asked(invocation: Invocation, path: Path | None) -> Iterator[Asked]:
    """Look at the server. `path`: a directory that stands for the next commit; None: the repository's tip.

    Raises Invalid for missing settings or when nothing valid is desired, Transient when Docker or the repository does not answer.
    """
    settings = invocation.settings()
    _required(settings, path)
    copy = read_copy(settings.state_dir)
    if path is None:
        with remote(settings) as read:
            assert read.tip is not None
            yield _seen(settings, read.tip, read.files, copy, read)
        return
    root = find_root(path)
    tree = read_worktree(root)
    revision = Revision(sha=UNCOMMITTED, subject=f"uncommitted, {root}")

    def files(sha: str) -> Files | None:
        return tree if sha == UNCOMMITTED else _nearby(root, settings, sha)

    if copy is None and settings.repo is not None:
        with remote(settings) as read:
            yield _seen(settings, revision, lambda sha: files(sha) or read.files(sha), None, read)
        return
    yield _seen(settings, revision, files, copy, None)


def _seen(
    settings: Settings, revision: Revision, files: Callable[[str], Files | None], copy: ClusterState | None, read: Reading | None
) -> Asked:
    cluster, where = copy, f"the state directory {settings.state_dir}"
    reports: Mapping[str, Report] = {}
    if read is not None:
        reports = read.reports
        if cluster is None and read.cluster is not None:
            cluster, where = read.cluster, read.where
    if cluster is None:
        where = "what runs here, as no decision is at hand"
    question = Question(site(settings), policy(settings), revision, files, cluster, reports, __version__)
    docker = Docker(settings.docker, settings.server or "")
    nginx = Nginx(settings.state_dir / "nginx", docker)
    seen = look(question, docker, nginx, _Secrets(settings))
    return Asked(question, seen, where, docker.writes)


def _required(settings: Settings, path: Path | None) -> None:
    missing = [] if settings.server else ["server"]
    if path is None and settings.repo is None:
        missing.append("repo")
    words = "is not set: give --{0} or RECONCILER_{1}, or write it in the settings file"
    if missing:
        extra = "; or name a directory to look at instead" if "repo" in missing else ""
        raise Invalid([Problem(name, 0, 0, words.format(name, name.upper()) + extra) for name in missing])


def _nearby(root: Path, settings: Settings, revision: str) -> Files | None:
    """A commit's files, from the work tree's own repository or from this server's clone."""
    own = next((d / ".git" / "objects" for d in (root, *root.parents) if (d / ".git" / "objects").is_dir()), None)
    for objects in (own, settings.state_dir / "repo.git" / "objects"):
        found = committed_files(objects, revision) if objects is not None and objects.is_dir() else None
        if found is not None:
            return found
    return None


class _Secrets:
    """The server's secrets, only looked at: where there is no key yet, none is made and no digest is known."""

    def __init__(self, settings: Settings) -> None:
        try:
            key = (settings.state_dir / "secrets.key").read_bytes()
        except OSError:
            key = b""
        self._known = bool(key)
        self._directory = SecretsDirectory(settings.local_dir, key or b"\0" * 32)

    def digests(self, wanted: Mapping[ServiceKey, tuple[str, ...]]) -> Mapping[str, str]:
        """As the directory says, if this server has its key."""
        return self._directory.digests(wanted) if self._known else {}

    def missing(self, wanted: Mapping[ServiceKey, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        """Names without a file."""
        return self._directory.missing(wanted)

    def redact(self, service: ServiceKey, names: tuple[str, ...], lines: tuple[str, ...]) -> tuple[str, ...]:
        """No lines are shown."""
        return ()
