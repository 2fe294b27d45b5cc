"""Whether a fetched decision has come from the one that is followed, on a clone in memory and on real Git."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.engine.following import Copy, follow, read_cluster, write_yaml
from reconciler.engine.ports import Publication, Snapshot
from reconciler.engine.repository import Repository
from reconciler.model.cluster import ClusterState, Decider
from tests.contract.git_beds import FakeBed, GitBed, RealBed

REF = "status/cluster"
AFTER = 10


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.slow)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GitBed]:
    found = FakeBed() if request.param == "fake" else RealBed(tmp_path)
    yield found
    assert found.struck, "a fault that the test asked for never happened"


class Server:
    """One server that decides, or follows what others decide."""

    def __init__(self, bed: GitBed, name: str) -> None:
        self.name = name
        self._git = Repository(bed.clone(name), name)
        self.own: Copy | None = None
        self.notice: str | None = None
        self.count = 0

    def poll(self) -> Snapshot:
        """Fetch, and follow what is right to follow."""
        self.count += 1
        snapshot = self._git.poll(frozenset(), None, self.own.comes_from if self.own is not None else None)
        found = follow(
            snapshot.cluster,
            snapshot.cluster_oid,
            self.own,
            server=self.name,
            epoch=f"{self.name}{self.count}",
            accepted=False,
            lacks=snapshot.lacks,
        )
        self.own, self.notice = found.copy(), found.notice
        return snapshot

    def decide(self, words: str, generation: int | None = None) -> str:
        """Push a decision on top of what it follows. `words` make it one of its own."""
        own = self.own
        number = generation or (own.cluster.generation + 1 if own is not None else 1)
        decider = Decider(server=self.name, program="1")
        state = (
            own.cluster.model_copy(update={"generation": number, "decided_by": decider, "config": words})
            if own is not None
            else ClusterState(epoch="e1", generation=number, decided_by=decider, members=("a", "b", "c"), config=words)
        )
        return self.push(state)

    def push(self, state: ClusterState) -> str:
        """Push a state on top of what it follows."""
        parent, lost = (self.own.based_on, self.own.lost) if self.own is not None else (None, None)
        message = f"{self.name}: {state.config}\n\nServer: {self.name}\n"
        publication = Publication("cluster", {"cluster.yaml": write_yaml(state)}, parent, message, lost)
        oid = self._git.publish([publication], 1_700_000_000 + self.count).landed["cluster"]
        assert oid is not None
        self.own = Copy(state, oid)
        return oid

    def compact(self) -> None:
        """Shorten the history."""
        self.poll()
        assert self._git.compact(["cluster"], AFTER) == ("cluster",)
        self.poll()


@pytest.fixture
def servers(bed: GitBed) -> tuple[Server, Server, Server]:
    """a has decided once, all follow it."""
    a, b, c = Server(bed, "a"), Server(bed, "b"), Server(bed, "c")
    a.poll()
    a.decide("one")
    b.poll()
    c.poll()
    return a, b, c


def words(server: Server) -> str:
    assert server.own is not None
    return server.own.cluster.config


def test_a_later_decision_has_come_from_it(servers: tuple[Server, Server, Server]) -> None:
    a, b, _ = servers
    a.decide("two")
    a.decide("three")
    assert b.poll().lacks is None
    assert (words(b), b.notice) == ("three", None)


def test_a_branch_that_was_moved_back_and_has_grown_again_has_not(bed: GitBed, servers: tuple[Server, Server, Server]) -> None:
    """FAULTS 35: its generation is higher than the one that is followed, and does not have what that one had decided."""
    a, b, _ = servers
    first = bed.tip(REF)
    lost = a.decide("two")
    bed.move(REF, first)
    b.decide("two, otherwise")
    b.decide("three, otherwise")
    assert a.poll().lacks == lost
    assert words(a) == "two" and a.own is not None and a.own.cluster.epoch.startswith("a")
    assert a.notice is not None and "generation 3 has not come from 2" in a.notice


def test_a_decision_put_there_by_hand_that_is_too_large_to_read_is_replaced(
    bed: GitBed, servers: tuple[Server, Server, Server]
) -> None:
    """It ended every poll, as it was read a second time to see where it comes from."""
    a, _, _ = servers
    lost = a.decide("two")
    bed.commit({"cluster.yaml": b"#" * (5 * 1024 * 1024)}, "Too large", branch=REF, orphan=True)
    assert a.poll().lacks == lost
    assert words(a) == "two" and a.notice is not None


def test_what_is_rebuilt_contains_what_was_lost_so_that_everybody_follows_it(
    bed: GitBed, servers: tuple[Server, Server, Server]
) -> None:
    a, b, c = servers
    first = bed.tip(REF)
    a.decide("two")
    c.poll()
    bed.move(REF, first)
    b.decide("two, otherwise")
    a.poll()
    assert a.own is not None
    rebuilt = a.push(a.own.cluster)
    for other in (b, c):
        assert other.poll().lacks is None
        assert (words(other), other.notice) == ("two", None)
        assert other.own is not None and other.own.based_on == rebuilt


def test_a_rebuild_from_an_older_copy_is_not_followed_by_who_knows_more(
    bed: GitBed, servers: tuple[Server, Server, Server]
) -> None:
    """b has not seen what a decided last, finds the branch gone, and is first."""
    a, b, c = servers
    a.decide("two")
    bed.move(REF, None)
    b.poll()
    assert b.own is not None and words(b) == "one"
    b.push(b.own.cluster)
    a.poll()
    assert words(a) == "two" and a.notice is not None and "rebuilt by b without generation 2" in a.notice
    assert a.own is not None
    a.push(a.own.cluster)
    for other in (b, c):
        other.poll()
        assert (words(other), other.notice) == ("two", None)


def test_two_that_rebuild_agree(bed: GitBed, servers: tuple[Server, Server, Server]) -> None:
    a, b, _ = servers
    first = bed.tip(REF)
    a.decide("two")
    b.poll()
    b.decide("three")
    bed.move(REF, first)
    a.poll()
    b.poll()
    for server in (a, b):
        assert server.own is not None
    assert a.own is not None
    a.push(a.own.cluster)
    b.poll()
    assert words(b) == "three", "what it knows is not in what a has rebuilt"
    assert b.own is not None
    b.push(b.own.cluster)
    a.poll()
    assert (words(a), a.notice) == ("three", None)
    assert a.own is not None and b.own is not None and a.own.cluster == b.own.cluster


def test_a_compaction_is_no_loss_even_for_who_was_away(servers: tuple[Server, Server, Server]) -> None:
    """b follows one of the last commits, which are others now; c one that is gone."""
    a, b, c = servers
    for number in range(AFTER):
        a.decide(f"n{number}")
        if number == AFTER - 2:
            b.poll()
    a.compact()
    a.decide("last")
    for other in (b, c):
        assert other.poll().lacks is None
        assert (words(other), other.notice) == ("last", None)


def test_a_branch_moved_back_after_a_compaction_is_noticed(bed: GitBed, servers: tuple[Server, Server, Server]) -> None:
    a, b, _ = servers
    for number in range(AFTER):
        a.decide(f"n{number}")
    a.compact()
    b.poll()
    first = bed.tip(REF)
    lost = a.decide("lost")
    bed.move(REF, first)
    b.decide("otherwise")
    b.decide("and on")
    assert a.poll().lacks == lost
    assert words(a) == "lost"


def test_a_copy_of_what_somebody_put_there_by_hand_knows_nothing_more(bed: GitBed, servers: tuple[Server, Server, Server]) -> None:
    """Found by the simulation (seed 763): b follows an old state that was put there without history."""
    a, b, _ = servers
    first = read_cluster(a.poll().cluster)
    assert first is not None
    a.decide("two")
    old = Server(bed, "c2")
    bed.commit({"cluster.yaml": write_yaml(first)}, "By hand", branch=REF, orphan=True)
    old.poll()
    assert words(old) == "one"
    bed.move(REF, None)
    a.poll()
    a.poll()  # it may have been a lagging replica
    assert a.own is not None and words(a) == "two"
    a.push(a.own.cluster)
    old.poll()
    assert (words(old), old.notice) == ("two", None)
    assert b.own is not None
