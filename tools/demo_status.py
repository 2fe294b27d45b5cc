"""What the demo knows, it reads where anybody would: in the status refs of the repository."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from demo_ground import DemoError, Ground, git

from reconciler.engine.following import read_cluster
from reconciler.engine.reports import read_report
from reconciler.model.cluster import ClusterState, ServiceState
from reconciler.model.report import Report

CLUSTER = "refs/heads/status/cluster"


@dataclass(frozen=True)
class Line:
    """One status commit."""

    time: str
    ref: str
    subject: str


class Status:
    """The status refs of the demo's repository."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._own = f"refs/heads/status/{ground.server}"

    def cluster(self) -> ClusterState | None:
        """The shared decision; None before the first."""
        text = self._show(CLUSTER, "cluster.yaml")
        return read_cluster(text.encode()) if text is not None else None

    def service(self, name: str) -> ServiceState | None:
        """A service of the sample in the decision."""
        cluster = self.cluster()
        return cluster.services.get(self._ground.service(name)) if cluster is not None else None

    def slot(self, name: str) -> str | None:
        """The slot that has the traffic."""
        state = self.service(name)
        return next((backend.slot for backend in state.backends if backend.role == "live"), None) if state is not None else None

    def report(self, revision: str | None = None) -> Report | None:
        """What the server says of itself, now or in one status commit."""
        text = self._show(revision or self._own, "report.yaml")
        found = read_report(self._ground.server, text.encode()) if text is not None else None
        return found if isinstance(found, Report) else None

    def switch_ms(self, generation: int) -> float | None:
        """How long the first verified switch of nginx to this generation took. None when no report says so yet."""
        for commit in git(self._ground.bare, "rev-list", "--reverse", self._own).split():
            report = self.report(commit)
            if report is not None and report.serving is not None and report.serving.generation >= generation:
                return report.serving.verified_ms
        return None

    def lines(self, since: Iterable[str] = (), *, cluster_only: bool = False) -> list[Line]:
        """Status commits in the order of time, without those that `since` (object ids) can reach."""
        refs = [ref for ref in (CLUSTER, *([] if cluster_only else [self._own])) if self.tip(ref)]
        if not refs:
            return []
        form = "--format=%cd%x09%S%x09%s"
        text = git(
            self._ground.bare, "log", "--reverse", "--date=format:%H:%M:%S", form, "--source", *refs, *(f"^{s}" for s in since)
        )
        found = [line.split("\t", 2) for line in text.splitlines()]
        return [Line(time, ref.removeprefix("refs/heads/"), subject) for time, ref, subject in found]

    def tip(self, ref: str = CLUSTER) -> str | None:
        """The object id of a status ref."""
        return git(self._ground.bare, "for-each-ref", "--format=%(objectname)", ref) or None

    def words(self) -> str:
        """What the status says now, for a person who asks why nothing happens."""
        page = self._show(CLUSTER, "README.md") or "status/cluster: not there yet"
        report = self.report()
        conditions = report.conditions if report is not None else ()
        return "\n".join([page, *(f"{c.type}={c.status} {c.reason} {c.service or ''} {c.message}".rstrip() for c in conditions)])

    def _show(self, revision: str, path: str) -> str | None:
        try:
            return git(self._ground.bare, "show", f"{revision}:{path}")
        except DemoError:
            return None
