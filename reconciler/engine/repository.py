"""The repository as the engine sees it: one poll brings a snapshot, one push carries everything there is to say."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from reconciler.engine.compaction import compact
from reconciler.engine.lineage import lacks
from reconciler.engine.ports import Publication, Published, Snapshot
from reconciler.errors import ReconcilerError, Stalled, Transient
from reconciler.model.desired import Build, Revision
from reconciler.model.revision import CommitInfo, Landed, PushResult, Refs, RefUpdate, Rejected, TreeEntry
from reconciler.model.source import Files, SourceFile

CLUSTER = "cluster"
READ = (".yaml", ".yml", ".json")
STALE_POLLS = 2
"""Polls that a status ref may lack this server's last push, as a lagging replica does, before it counts as rewound."""


class Git(Protocol):
    """This server's clone of the repository: `effects.git.GitRepository` says what each does and raises."""

    def open(self) -> None: ...
    def fetch(self) -> Refs: ...
    def known(self) -> Refs | None: ...
    def keep(self, name: str, sha: str) -> None: ...
    def drop(self, name: str) -> None: ...
    def kept(self) -> Mapping[str, str]: ...
    def accept(self, ref: str) -> None: ...
    def commit(
        self,
        files: Mapping[str, bytes],
        parent: str | None,
        message: str,
        *,
        author: str,
        when: int,
        merges: str | None = None,
    ) -> str: ...
    def push(self, updates: Sequence[RefUpdate]) -> Mapping[str, PushResult]: ...
    def read_tree(self, revision: str) -> Mapping[str, TreeEntry]: ...
    def read_blob(self, oid: str) -> bytes: ...
    def read_file(self, ref_or_sha: str, path: str) -> bytes | None: ...
    def commit_info(self, sha: str) -> CommitInfo: ...
    def is_ancestor(self, ancestor: str, descendant: str) -> bool: ...
    def log(self, ref_or_sha: str, limit: int) -> list[CommitInfo]: ...


class Repository:
    """Wraps a clone; its methods may be called from different threads, one at a time."""

    def __init__(self, git: Git, server: str) -> None:
        self._git = git
        self._server = server
        self._lock = threading.RLock()
        self._opened = False
        self._files: dict[str, Files] = {}
        self._blobs: dict[str, bytes] = {}
        self._stale: dict[str, int] = {}
        self._last: Refs | None = None
        self._lineage: tuple[str, str, bool] | None = None

    def poll(self, needed: frozenset[str], followed: str | None, decision: str | None = None) -> Snapshot:
        """One fetch, and the files of the tip and of the `needed` revisions. Raises Transient.

        `followed` is the config revision that the cluster state follows: the snapshot says how the tip relates to it. `decision`
        is the commit of status/cluster that is followed: the snapshot says whether the fetched one has come from it.
        """
        with self._lock:
            self._open()
            try:
                refs = self._git.fetch()
            except Transient as error:
                return replace(self._config_alone(error, needed, followed), error=error)
            return self._snapshot(refs, self._believed(refs), needed, followed, decision)

    def last(self, needed: frozenset[str], followed: str | None, decision: str | None = None) -> Snapshot | None:
        """The same from what the last fetch left in the clone, for a start while the remote does not answer; None without one."""
        with self._lock:
            self._open()
            refs = self._git.known()
            return self._snapshot(refs, refs.status, needed, followed, decision) if refs is not None else None

    def _config_alone(self, error: Transient, needed: frozenset[str], followed: str | None) -> Snapshot:
        """A status remote of its own that is away holds up no deploy: the new config that was fetched all the same.

        Raises `error` when there is none, and when history was rewritten, which only a whole fetch tells.
        """
        known = self._git.known()
        before = self._last
        if (
            known is None
            or before is None
            or known.config == before.config
            or not self._git.is_ancestor(before.config, known.config)
        ):
            raise error
        self._last = known
        return self._snapshot(known, known.status, needed, followed)

    def _open(self) -> None:
        if not self._opened:
            self._git.open()
            self._opened = True

    def _snapshot(
        self, refs: Refs, status: Mapping[str, str], needed: frozenset[str], followed: str | None, decision: str | None = None
    ) -> Snapshot:
        wanted = {refs.config, *needed}
        self._files = {sha: files for sha, files in self._files.items() if sha in wanted}
        for sha in sorted(wanted - self._files.keys()):
            try:
                self._files[sha] = self._read(sha)
            except ReconcilerError:
                if sha == refs.config:
                    raise  # an old revision that cannot be read is reported by name where it is missed
        self._keep(frozenset(self._files) - {refs.config})
        used = {file.oid for files in self._files.values() for file in files.values()}
        self._blobs = {oid: data for oid, data in self._blobs.items() if oid in used}
        tip = self._git.commit_info(refs.config)
        cluster_oid = status.get(CLUSTER)
        reports = {name: oid for name, oid in status.items() if name != CLUSTER}
        found = {name: self._status_file(oid, "report.yaml") for name, oid in reports.items()}
        shared = self._status_file(cluster_oid, "cluster.yaml") if cluster_oid else None
        return Snapshot(
            revision=Revision(sha=refs.config, subject=tip.subject),
            files=dict(self._files),
            cluster=None if not cluster_oid else shared if isinstance(shared, bytes) else b"",
            cluster_oid=cluster_oid,
            reports={name: data for name, data in found.items() if data is not None},
            report_oids=reports,
            rewritten=refs.forced.old if refs.forced is not None else None,
            behind=self._behind(refs.config, followed),
            lacks=decision if decision and cluster_oid and self._lacks(cluster_oid, decision) else None,
        )

    def _lacks(self, tip: str, decision: str) -> bool:
        """Asked once for the same two: while a rebuilt decision cannot be pushed, every poll would read the history again."""
        if self._lineage is None or self._lineage[:2] != (tip, decision):
            self._lineage = (tip, decision, lacks(self._git, tip, decision))
        return self._lineage[2]

    def _status_file(self, oid: str, path: str) -> bytes | Stalled | None:
        """One that is too large is its branch's trouble, and no reason to follow nothing else."""
        try:
            return self._git.read_file(oid, path)
        except Stalled as error:
            return error

    def _behind(self, tip: str, followed: str | None) -> bool:
        """Whether the tip is older than what is followed, as a lagging replica of the Git host shows it."""
        if followed is None or followed == tip:
            return False
        try:
            return self._git.is_ancestor(tip, followed)
        except Transient:
            return False  # what is followed is not in the clone: nothing is known of it

    def publish(self, publications: Sequence[Publication], when: int) -> Published:
        """Commit and push. Raises Transient when even that cannot be tried."""
        with self._lock:
            updates = []
            for each in publications:
                lost = self._held(each.merges)
                sha = self._git.commit(each.files, each.parent, each.message, author=self._server, when=when, merges=lost)
                updates.append(RefUpdate(ref=each.ref, new=sha, expected_old=each.parent, merges=lost))
            results = self._git.push(updates)
            landed: dict[str, str | None] = {}
            tips: dict[str, str | None] = {}
            error = None
            for update in updates:
                result = results[update.ref]
                if isinstance(result, Landed):
                    landed[update.ref] = update.new
                elif isinstance(result, Rejected):
                    tips[update.ref] = result.tip
                else:
                    error = result.reason
            return Published(landed=landed, tips=tips, error=error)

    def _held(self, sha: str | None) -> str | None:
        """A commit, if the clone has it: what nobody has cannot be pushed."""
        try:
            return self._git.commit_info(sha).sha if sha is not None else None
        except Transient:
            return None

    def compact(self, refs: Sequence[str], after: int) -> tuple[str, ...]:
        """Shorten the histories of status refs with at least `after` commits, as the last poll found them. Raises Transient.

        Returns those that were. One that somebody else has moved stays for another time.
        """
        with self._lock:
            tips = self._last.status if self._last is not None else {}
            return tuple(ref for ref in refs if ref in tips and compact(self._git, ref, tips[ref], after=after))

    def context(self, build: Build) -> Mapping[str, tuple[int, bytes]]:
        """The files of a build context, by path. Raises Transient."""
        with self._lock:
            return {path: (mode, self._git.read_blob(oid)) for path, mode, oid in build.files}

    def _believed(self, refs: Refs) -> Mapping[str, str]:
        """The status refs to go by: one that lacks our last push is not believed at once (FAULTS 38)."""
        believed = dict(refs.status)
        self._stale = {ref: count for ref, count in self._stale.items() if ref in refs.stale}
        for ref, stale in refs.stale.items():
            self._stale[ref] = self._stale.get(ref, 0) + 1
            before = self._last.status.get(ref) if self._last is not None else None
            if stale.behind and self._stale[ref] < STALE_POLLS and before is not None:
                believed[ref] = before
                continue
            self._git.accept(ref)
        self._last = Refs(config=refs.config, status=believed)
        return believed

    def _read(self, revision: str) -> Files:
        files = {}
        for path, entry in self._git.read_tree(revision).items():
            name = path.rsplit("/", 1)[-1]
            data = None
            if entry.is_file and (name.endswith(READ) or name.startswith("Dockerfile")):
                data = self._blobs.get(entry.oid)
                if data is None:
                    data = self._blobs[entry.oid] = self._git.read_blob(entry.oid)
            files[path] = SourceFile(path=path, mode=entry.mode, oid=entry.oid, data=data)
        return files

    def _keep(self, revisions: frozenset[str]) -> None:
        """What is live stays readable, whatever becomes of the branches."""
        kept = self._git.kept()
        for sha in sorted(revisions - set(kept.values())):
            try:
                self._git.keep(f"live/{sha}", sha)
            except Transient:
                continue  # it is not in the clone: nothing to hold on to
        for name, sha in kept.items():
            if name.startswith("live/") and sha not in revisions:
                self._git.drop(name)
