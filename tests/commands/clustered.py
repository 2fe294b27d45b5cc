"""A Git host with the status branches of a cluster, written as its servers would: by `decide`, `report` and their own texts.

Commits are made inside this process, by the adapter's own object store: git itself would take a second for each story.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

from reconciler.effects.git_objects import ObjectStore
from reconciler.engine.following import write_yaml
from reconciler.model.desired import DesiredService
from reconciler.model.report import Report
from reconciler.plan.decide import Decision
from reconciler.render.messages import cluster_message, report_message
from reconciler.render.status_page import status_page
from tests.plan.build import Story, desired
from tests.remote import Remote

BEGAN = 1_700_000_000
"""When the first commit was made."""


@dataclass
class Clustered:
    """A story whose every decision and report is pushed. `now` moves on by a minute with each commit of a test's own."""

    remote: Remote
    servers: tuple[str, ...]
    zones: dict[str, str] = field(default_factory=dict)
    drained: tuple[str, ...] = ()
    now: int = BEGAN
    story: Story = field(init=False)
    told: dict[str, Report] = field(default_factory=dict)

    def commit(self, *services: DesiredService, subject: str = "change") -> str:
        """The config moves on: what is desired from now on."""
        self.now += 60
        entries = {
            name: {"zone": self.zones.get(name, "lon1"), "state": "drained" if name in self.drained else "active"}
            for name in self.servers
        }
        sha = self._commit({"cluster.yaml": yaml.safe_dump({"servers": entries}).encode()}, subject, "main", "person")
        known = tuple(self.story.want.library.values()) if hasattr(self, "story") else ()
        want = desired(*services, servers=self.servers, library=known)
        revision = want.revision.model_copy(update={"sha": sha, "subject": subject})
        inventory = {name: entry.model_copy(update=entries[name]) for name, entry in want.servers.items()}
        want = want.model_copy(update={"revision": revision, "servers": inventory})
        if hasattr(self, "story"):
            self.story.want = want
        else:
            self.story = Story(want)
        return sha

    def decide(self, server: str = "a") -> Decision:
        """One decision, pushed if it says anything."""
        decision = self.story.decide(server)
        if decision.reasons:
            page = status_page(decision.cluster, self.story.want.servers, self.story.want.revision)
            files = {"cluster.yaml": write_yaml(decision.cluster), "README.md": page.encode()}
            message = cluster_message(server, decision.reasons, decision.cluster)
            self._commit(files, message, "status/cluster", server)
        return decision

    def report(self, *servers: str, phase: str = "ready", transient: bool = False) -> None:
        """These servers do as the decision says, and push what they have to say."""
        for server in servers:
            self.push(self.story.report(server, phase, transient=transient))

    def push(self, report: Report) -> None:
        """One report, if it says anything new."""
        self.story.reports[report.server] = report
        before = self.told.get(report.server)
        if report != before:
            files = {"report.yaml": write_yaml(report)}
            self._commit(files, report_message(before, report), f"status/{report.server}", report.server)
            self.told[report.server] = report

    def settle(self, *but: str) -> None:
        """Until nothing changes any more, with every server but these doing its part."""
        for _ in range(40):
            before = self.story.cluster
            self.decide()
            self.report(*(server for server in self.servers if server not in but))
            if self.story.cluster == before:
                return
        raise AssertionError(f"it does not settle: {self.story.reasons[-5:]}")

    def _commit(self, files: dict[str, bytes], message: str, branch: str, author: str) -> str:
        ref = self.remote.path / "refs/heads" / branch
        parent = ref.read_text().strip() if ref.exists() else None
        sha = ObjectStore(self.remote.path / "objects").write_commit(
            files, [parent] if parent else [], message, author=author, when=self.now
        )
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(f"{sha}\n")
        return sha
