"""The simulation's Git remote does what the contract's fake and real Git do: pushes, and branches moved by hand, at random."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.model.report import Report
from reconciler.model.revision import Landed, RefUpdate, Rejected, Unknown
from tests.contract.git_beds import Clone, FakeBed, GitBed, RealBed
from tests.simulation.remote import CLUSTER, Remote, Update

SERVERS = ("a", "b", "c")
REFS = (CLUSTER, *SERVERS)


@dataclass
class Both:
    """The two remotes, and which commit of the one is which of the other."""

    bed: GitBed
    remote: Remote = field(default_factory=Remote)
    names: dict[str, str] = field(default_factory=dict)  # the simulation's -> the bed's
    count: int = 0

    def __post_init__(self) -> None:
        self.clones: dict[str, Clone] = {name: self.bed.clone(name) for name in SERVERS}
        self.seen: dict[str, dict[str, str]] = {name: {} for name in SERVERS}
        self.last: dict[str, tuple[list[Update], list[RefUpdate]]] = {}
        self.held: dict[str, set[str]] = {name: set() for name in SERVERS}
        for name in SERVERS:
            self.fetch(name)

    def fetch(self, server: str) -> None:
        """It sees the same branches on both."""
        found = dict(self.clones[server].fetch().status)
        assert found == {ref: self.names[oid] for ref, oid in self.remote.refs.items()}
        self.seen[server] = dict(self.remote.refs)
        for tip in self.remote.refs.values():
            self.held[server] |= {oid for oid in self.names if self.remote.descends(tip, oid)}

    def push(self, rng: random.Random, server: str) -> str:
        """On top of what it saw last; the one rejects what the other rejects, and names the same tip."""
        refs = [ref for ref in (CLUSTER, server) if rng.random() < 0.7] or [CLUSTER]
        mine, theirs = [], []
        for ref in refs:
            self.count += 1
            parent = self.seen[server].get(ref)
            lost = rng.choice(sorted(self.held[server])) if self.held[server] and rng.random() < 0.2 else None
            lost = None if lost == parent else lost
            shas = [self.names[oid] if oid else None for oid in (parent, lost)]
            said = {"report.yaml": str(self.count).encode()}
            sha = self.clones[server].commit(said, shas[0], f"{server}", author=server, when=self.count, merges=shas[1])
            oid = self.remote.name()
            self.names[oid] = sha
            mine.append(Update(ref, oid, parent, Report(server=server, instance=str(self.count), program="1"), lost))
            theirs.append(RefUpdate(ref, sha, shas[0], merges=shas[1]))
        self.last[server] = (mine, theirs)
        return self.again(server)

    def again(self, server: str) -> str:
        """Its last push, once more if it has not heard what became of it."""
        mine, theirs = self.last[server]
        pushed = self.remote.push(mine)
        results = self.clones[server].push(theirs)
        for update in mine:
            if update.ref in pushed.rejected:
                tip = pushed.rejected[update.ref]
                assert results[update.ref] == Rejected(self.names[tip] if tip else None)
            elif update.ref not in pushed.landed:
                assert isinstance(results[update.ref], Unknown)
            else:
                assert results[update.ref] == Landed()
                self.seen[server][update.ref] = update.oid
                self.held[server].add(update.oid)
        return f"{server} pushes {[u.ref for u in mine]}: rejected {sorted(pushed.rejected)}"

    def by_hand(self, rng: random.Random) -> str:
        """Somebody moves a branch back, deletes it, or puts something else there."""
        ref = rng.choice(REFS)
        if ref not in self.remote.refs:
            return "nothing"
        if rng.random() < 0.6:
            self.remote.rewind(ref, rng.randrange(1, 4))
        elif rng.random() < 0.5:
            del self.remote.refs[ref]
        else:
            earlier = rng.choice(sorted(self.remote.commits))
            self.remote.refs[ref] = earlier
        tip = self.remote.refs.get(ref)
        self.bed.move(f"status/{ref}", self.names[tip] if tip else None)
        return f"{ref} is moved"

    def compare(self, done: list[str]) -> None:
        """The branches, and which commits their histories have."""
        assert {ref: self.bed.tip(f"status/{ref}") for ref in REFS} == {
            ref: self.names.get(self.remote.refs.get(ref, "")) for ref in REFS
        }, done


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.slow)])
def beds(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[GitBed]]:
    yield [FakeBed() for _ in range(60)] if request.param == "fake" else [RealBed(tmp_path)]


def test_pushes_land_and_are_rejected_on_both(beds: list[GitBed]) -> None:
    rejected = 0
    for seed, bed in enumerate(beds):
        rng = random.Random(seed)
        both = Both(bed)
        done: list[str] = []
        for _ in range(50):
            roll = rng.random()
            server = rng.choice(SERVERS)
            if roll < 0.15 and server in both.last:
                done.append(both.again(server))
            elif roll < 0.55:
                done.append(both.push(rng, server))
            elif roll < 0.85:
                both.fetch(server)
                done.append(f"{server} fetches")
            else:
                done.append(both.by_hand(rng))
            both.compare(done)
        rejected += sum(not line.endswith("rejected []") for line in done if "pushes" in line)
        for tip in both.remote.refs.values():
            for oid, sha in both.names.items():
                if oid in both.remote.commits:
                    both.clones["a"].fetch()
                    assert both.remote.descends(tip, oid) == both.clones["a"].is_ancestor(sha, both.names[tip])
    assert rejected > 5
