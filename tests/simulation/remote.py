"""The Git remote's status branches: commits with parents, compare-and-swap, and what people do to them by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.model.cluster import ClusterState
from reconciler.model.report import Report

CLUSTER = "cluster"
Content = ClusterState | Report


@dataclass(frozen=True)
class Update:
    """One ref of a push: `oid` is the commit's, on top of `parent`. lost: a commit that it comes from as well."""

    ref: str
    oid: str
    parent: str | None
    content: Content
    lost: str | None = None


@dataclass(frozen=True)
class Pushed:
    """What became of each ref: it landed, or it was rejected (its tip); in neither when an older view was all that answered."""

    landed: frozenset[str] = frozenset()
    rejected: Mapping[str, str | None] = field(default_factory=dict)


@dataclass
class Remote:
    """Refs and commits. `atomic`: whether a push compares before it swaps (a wrong rule of the mutations may not)."""

    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, tuple[tuple[str, ...], Content]] = field(default_factory=dict)
    flying: list[tuple[float, tuple[Update, ...]]] = field(default_factory=list)
    compares: bool = True
    count: int = 0
    pushes: int = 0

    def name(self) -> str:
        """A fresh commit's name."""
        self.count += 1
        return f"o{self.count}"

    def push(self, updates: Sequence[Update]) -> Pushed:
        """Apply what applies."""
        rejected: dict[str, str | None] = {}
        landed = set()
        for update in updates:
            tip = self.refs.get(update.ref)
            if self.compares and tip != update.parent:
                if self.contains(update.ref, update.oid):
                    landed.add(update.ref)
                elif tip is None or update.parent is None or not self.descends(update.parent, tip):
                    rejected[update.ref] = tip
                continue
            landed.add(update.ref)
            parents = tuple(each for each in (update.parent, update.lost) if each is not None)
            self.commits[update.oid] = (parents, update.content)
            self.refs[update.ref] = update.oid
            self.pushes += 1
        return Pushed(frozenset(landed), rejected)

    def contains(self, ref: str, oid: str) -> bool:
        """Whether a commit is in a branch's history."""
        return self.descends(self.refs.get(ref), oid)

    def descends(self, tip: str | None, oid: str) -> bool:
        """Whether a commit is in the history of another one."""
        unread = [tip] if tip is not None else []
        seen = set(unread)
        for each in unread:
            if each == oid:
                return True
            unread.extend(parent for parent in self.commits[each][0] if parent not in seen)
            seen.update(unread)
        return False

    def passes(self, now: float) -> None:
        """Slow pushes arrive."""
        if self.flying and any(due <= now for due, _ in self.flying):
            arrived = [updates for due, updates in self.flying if due <= now]
            self.flying = [(due, updates) for due, updates in self.flying if due > now]
            for updates in arrived:
                self.push(updates)

    def content(self, ref: str) -> Content | None:
        """What a branch holds."""
        tip = self.refs.get(ref)
        return self.commits[tip][1] if tip is not None else None

    @property
    def cluster(self) -> ClusterState | None:
        """The shared decision."""
        found = self.content(CLUSTER)
        assert found is None or isinstance(found, ClusterState)
        return found

    def reports(self) -> dict[str, Report]:
        """The reports, by server."""
        found = {ref: self.commits[oid][1] for ref, oid in self.refs.items() if ref != CLUSTER}
        return {ref: report for ref, report in sorted(found.items()) if isinstance(report, Report)}

    def rewind(self, ref: str, steps: int) -> None:
        """Somebody moves a branch back; further back than its beginning deletes it."""
        for _ in range(steps):
            tip = self.refs.get(ref)
            if tip is None:
                return
            parents = self.commits[tip][0]
            if parents:
                self.refs[ref] = parents[0]
            else:
                del self.refs[ref]
