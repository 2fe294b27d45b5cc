"""What servers have said: from this server's own state directory, or from the status branches of the repository."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.commands.invocation import Invocation
from reconciler.effects.git import GitRepository
from reconciler.effects.git_reader import GitReader
from reconciler.effects.git_settings import GitSettings
from reconciler.effects.worktree import commit_subject, committed_files
from reconciler.engine.following import read_cluster
from reconciler.engine.reports import read_reports
from reconciler.engine.requests import read_copy
from reconciler.engine.settings import Settings
from reconciler.engine.wiring import git_settings
from reconciler.errors import Invalid, Problem, ReconcilerError, Stalled, Transient
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Revision
from reconciler.model.printable import printable
from reconciler.model.report import Condition, Report
from reconciler.model.revision import CommitInfo
from reconciler.model.source import Files

CLUSTER = "status/cluster"


@dataclass(frozen=True)
class Reading:
    """What was read. `where`: from where, in words. `tip` is the config branch's, None when only the local copy was looked at."""

    where: str
    cluster: ClusterState | None
    reports: Mapping[str, Report]
    unreadable: tuple[Condition, ...]
    objects: Path
    reader: GitReader | None
    tip: Revision | None = None

    def subject(self, revision: str) -> str:
        """A commit's subject, empty when it is not at hand."""
        return commit_subject(self.objects, revision)

    def files(self, revision: str) -> Files | None:
        """A commit's config files, None when they are not at hand."""
        return committed_files(self.objects, revision)

    def decisions(self, limit: int) -> list[CommitInfo]:
        """The newest commits of status/cluster."""
        return self.reader.log(CLUSTER, limit) if self.reader is not None else []


@contextmanager
def reading(invocation: Invocation, settings: Settings) -> Iterator[Reading]:
    """The state directory's copy when this is a server and no --repo was given; else the repository's status branches.

    Raises Invalid when there is neither, Transient when the repository cannot be read.
    """
    copy = None if invocation.repo_given else read_copy(settings.state_dir)
    if copy is not None:
        yield local(settings, copy)
        return
    if settings.repo is None:
        message = (
            f"nothing is known here: {settings.state_dir} holds no copy of the cluster state. On a server, name its directory with "
            "--state-dir; elsewhere, give --repo URL to read the status branches"
        )
        raise Invalid([Problem("status", 0, 0, message)])
    with remote(settings) as found:
        yield found


def local(settings: Settings, cluster: ClusterState | None) -> Reading:
    """What this server's state directory has. Nothing in it is changed, so a daemon may run meanwhile."""
    clone = settings.state_dir / "repo.git"
    reader = GitReader(clone, GitSettings(url="/")) if clone.is_dir() else None
    raw: dict[str, bytes | ReconcilerError] = {}
    for name in cluster.members if cluster is not None else ():
        with suppress(Transient):  # a clone that is damaged, or being made
            data = _file(reader, f"status/{name}", "report.yaml") if reader is not None else None
            if data is not None:
                raw[name] = data
    reports, unreadable = read_reports(raw, "")
    return Reading(f"the state directory {settings.state_dir}", cluster, reports, unreadable, clone / "objects", reader)


@contextmanager
def remote(settings: Settings) -> Iterator[Reading]:
    """What the repository has, through a clone that is gone afterwards. Raises Transient."""
    with cloned(settings) as git:
        refs = git.fetch()
        raw: dict[str, bytes | ReconcilerError] = {}
        for name in refs.status:
            data = _file(git, f"status/{name}", "report.yaml") if name != "cluster" else None
            if data is not None:
                raw[name] = data
        try:
            cluster = read_cluster(git.read_file(CLUSTER, "cluster.yaml"))
        except ValueError as error:
            raise Transient(f"{error}; a server's next pass writes it anew") from error
        reports, unreadable = read_reports(raw, "")
        tip = Revision(sha=refs.config, subject=git.commit_info(refs.config).subject)
        yield Reading("the status branches of the repository", cluster, reports, unreadable, git.objects, git, tip)


@contextmanager
def cloned(settings: Settings) -> Iterator[GitRepository]:
    """A clone, still empty, that is gone afterwards. Raises Transient.

    Where the settings name no key and no token, the repository is reached as `git` reaches it for whoever runs this.
    """
    own = (settings.ssh_key, settings.known_hosts, settings.token_file, settings.token_env, settings.ca_file)
    options = replace(git_settings(settings), personal=not any(own))
    with tempfile.TemporaryDirectory(prefix="reconcile-") as directory:
        git = GitRepository(Path(directory) / "repo.git", options)
        git.open()
        yield git


def known_service(cluster: ClusterState, asked: str | None) -> str | None:
    """The service asked for, also by its last part or parts where that is clear. Raises Invalid with what there is."""
    return service_of(cluster.services, asked)


def service_of(services: Iterable[str], asked: str | None) -> str | None:
    """As `known_service`, among these names."""
    there = sorted(services)
    if asked is None or asked in there:
        return asked
    alike = [name for name in there if name.endswith(f"/{asked}")]
    if len(alike) == 1:
        return alike[0]
    names = ", ".join(alike or there) or "none"
    what = "names several services" if alike else "is not a service here"
    raise Invalid([Problem(printable(asked), 0, 0, f"{what}; expected project/env/service, one of: {names}")])


def _file(reader: GitReader, ref: str, path: str) -> bytes | Stalled | None:
    """A file; what says so when it is too large; None when there is none. Raises Transient."""
    try:
        return reader.read_file(ref, path)
    except Stalled as error:
        return error
