"""A Git host in memory, and one server's view of it as the engine's port: the same compare-and-swap, without Git."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.engine.ports import Publication, Published, Snapshot
from reconciler.model.desired import Build, Revision
from reconciler.model.source import Files, SourceFile

CLUSTER = "cluster"


def _oid(*parts: object) -> str:
    return hashlib.sha1(repr(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Pushed:
    """One push: when (the host's clock), by whom, and which refs it asked for and moved."""

    at: float
    server: str
    asked: tuple[str, ...]
    landed: tuple[str, ...]
    subjects: tuple[str, ...] = ()

    @property
    def rejected(self) -> bool:
        """Whether somebody else was first at one of the refs."""
        return self.asked != self.landed


@dataclass
class MemoryHost:
    """The repository: revisions of the config, and the tips of the status refs."""

    revisions: list[tuple[Revision, Files]] = field(default_factory=list)
    tips: dict[str, tuple[str, Mapping[str, bytes]]] = field(default_factory=dict)
    pushes: list[Pushed] = field(default_factory=list)
    fetches: int = 0
    landed: Callable[[Publication], None] = lambda publication: None
    """Called for each status commit, in order."""

    def commit(self, files: Mapping[str, str], subject: str) -> str:
        """A config commit that holds exactly these files."""
        sha = _oid(subject, len(self.revisions), sorted(files.items()))
        found = {path: SourceFile(path, 0o100644, _oid(text), text.encode()) for path, text in sorted(files.items())}
        self.revisions.append((Revision(sha=sha, subject=subject), found))
        return sha

    def text(self, ref: str, file: str) -> bytes | None:
        """A file of a status ref."""
        return self.tips[ref][1].get(file) if ref in self.tips else None


class MemoryGit:
    """What one server does with the host. `now` is the host's clock, for the record."""

    def __init__(self, host: MemoryHost, server: str, now: object) -> None:
        self._host = host
        self._server = server
        self._now = now

    def poll(self, needed: frozenset[str], followed: str | None, decision: str | None = None) -> Snapshot:
        self._host.fetches += 1
        found = self.last(needed, followed)
        assert found is not None
        return found

    def last(self, needed: frozenset[str], followed: str | None, decision: str | None = None) -> Snapshot | None:
        if not self._host.revisions:
            return None
        tip = self._host.revisions[-1][0]
        cluster = self._host.tips.get(CLUSTER)
        reports = {ref: found for ref, found in self._host.tips.items() if ref != CLUSTER}
        return Snapshot(
            revision=tip,
            files={revision.sha: files for revision, files in self._host.revisions if revision.sha in {tip.sha, *needed}},
            cluster=cluster[1]["cluster.yaml"] if cluster is not None else None,
            cluster_oid=cluster[0] if cluster is not None else None,
            reports={ref: files["report.yaml"] for ref, (_, files) in reports.items()},
            report_oids={ref: oid for ref, (oid, _) in reports.items()},
        )

    def publish(self, publications: Sequence[Publication], when: int) -> Published:
        landed: dict[str, str | None] = {}
        tips: dict[str, str | None] = {}
        for each in publications:
            tip = self._host.tips[each.ref][0] if each.ref in self._host.tips else None
            if tip == each.parent:
                landed[each.ref] = _oid(each.parent, sorted(each.files.items()), each.message)
                self._host.tips[each.ref] = (str(landed[each.ref]), dict(each.files))
                self._host.landed(each)
            else:
                tips[each.ref] = tip
        at = float(self._now()) if callable(self._now) else 0.0
        subjects = tuple(each.message.splitlines()[0] for each in publications)
        self._host.pushes.append(Pushed(at, self._server, tuple(each.ref for each in publications), tuple(landed), subjects))
        return Published(landed=landed, tips=tips)

    def compact(self, refs: Sequence[str], after: int) -> tuple[str, ...]:
        return ()

    def context(self, build: Build) -> Mapping[str, tuple[int, bytes]]:
        raise AssertionError("nothing is built here")
