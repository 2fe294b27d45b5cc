"""Long histories of status refs are shortened, by compare-and-swap, and nobody who reads them notices: on real Git."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.effects.git import GitRepository
from reconciler.effects.git_settings import GitSettings
from reconciler.engine.compaction import SHORTENED
from reconciler.engine.following import Copy, follow, read_cluster, write_yaml
from reconciler.engine.ports import Publication, Snapshot
from reconciler.engine.repository import Repository
from reconciler.model.cluster import ClusterState, Decider
from reconciler.model.revision import RefUpdate
from tests.remote import Remote

COMMITS = 12
AFTER = 10
KEPT = 5
START = 1_700_000_000


def state(generation: int, server: str = "a") -> ClusterState:
    """A decision of two members."""
    return ClusterState(
        epoch="e1", generation=generation, decided_by=Decider(server=server, program="1"), members=("a", "b"), config="abc"
    )


def decision(generation: int, parent: str | None, server: str = "a") -> Publication:
    """It as a publication on top of `parent`."""
    files = {"cluster.yaml": write_yaml(state(generation, server)), "README.md": f"# {generation}\n".encode()}
    return Publication("cluster", files, parent, f"{server}: decision {generation}\n\nGeneration: {generation}\nServer: {server}\n")


def server(name: str, remote: Remote, directory: Path) -> Repository:
    """A server's repository with a clone of its own."""
    return Repository(GitRepository(directory / name / "repo.git", GitSettings(url=remote.url)), name)


def polled(repository: Repository) -> Snapshot:
    return repository.poll(frozenset(), None)


@pytest.fixture
def pair(git_remote: Remote, tmp_path: Path) -> tuple[Repository, Repository]:
    """a and b, after a has decided often; both have polled."""
    git_remote.commit({"cluster.yaml": "servers: {a: {}, b: {}}\n"}, "Start")
    a, b = server("a", git_remote, tmp_path), server("b", git_remote, tmp_path)
    polled(a)
    parent = None
    for number in range(1, COMMITS + 1):
        parent = a.publish([decision(number, parent)], START + number).landed["cluster"]
    polled(a)
    polled(b)
    return a, b


def subjects(remote: Remote) -> Sequence[str]:
    """Of status/cluster, the newest first."""
    return [commit.subject for commit in remote.log("status/cluster")]


def test_the_last_commits_stay_and_say_what_they_said(pair: tuple[Repository, Repository], git_remote: Remote) -> None:
    a, _ = pair
    text, before = git_remote.show("status/cluster", "cluster.yaml"), git_remote.tip("status/cluster")
    whole = git_remote.git("log", "--format=%an %ae %at %s %b", f"-{KEPT}", "status/cluster")
    assert a.compact(["cluster"], AFTER) == ("cluster",)
    assert git_remote.tip("status/cluster") != before
    assert subjects(git_remote) == [f"a: decision {n}" for n in range(COMMITS, COMMITS - KEPT, -1)]
    said = git_remote.git("log", "--format=%an %ae %at %s %b", "status/cluster")
    assert said == f"{whole}\n{SHORTENED}", "and the oldest that it is the oldest that is left"
    assert git_remote.show("status/cluster", "cluster.yaml") == text


def test_another_server_goes_on_from_it_with_its_epoch(pair: tuple[Repository, Repository], git_remote: Remote) -> None:
    a, b = pair
    before = polled(b)
    assert a.compact(["cluster"], AFTER) == ("cluster",)
    after = polled(b)
    assert after.cluster == before.cluster and after.cluster_oid == git_remote.tip("status/cluster") != before.cluster_oid
    own = Copy(state(COMMITS), before.cluster_oid)
    followed = follow(after.cluster, after.cluster_oid, own, server="b", epoch="another", accepted=False)
    assert (followed.cluster, followed.based_on, followed.notice) == (state(COMMITS), after.cluster_oid, None)
    assert b.publish([decision(COMMITS + 1, after.cluster_oid, "b")], START).landed["cluster"] == git_remote.tip("status/cluster")


def test_who_pushed_last_believes_the_shortened_history_at_once(pair: tuple[Repository, Repository]) -> None:
    """Its own last commit is not in it, and it is no rewound branch all the same."""
    a, b = pair
    assert b.compact(["cluster"], AFTER) == ("cluster",)
    snapshot = polled(a)
    assert read_cluster(snapshot.cluster) == state(COMMITS)
    assert a.publish([decision(COMMITS + 1, snapshot.cluster_oid)], START).landed["cluster"]


def test_of_two_that_compact_at_once_both_made_the_same(pair: tuple[Repository, Repository], git_remote: Remote) -> None:
    a, b = pair
    assert a.compact(["cluster"], AFTER) == ("cluster",)
    tip = git_remote.tip("status/cluster")
    b.compact(["cluster"], AFTER)  # from the view of before
    assert git_remote.tip("status/cluster") == tip and len(subjects(git_remote)) == KEPT


def test_a_decision_that_lands_meanwhile_is_not_lost(pair: tuple[Repository, Repository], git_remote: Remote) -> None:
    a, b = pair
    tip = polled(b).cluster_oid
    landed = b.publish([decision(COMMITS + 1, tip, "b")], START).landed["cluster"]
    assert a.compact(["cluster"], AFTER) == ()
    assert git_remote.tip("status/cluster") == landed and len(subjects(git_remote)) == COMMITS + 1
    polled(a)
    assert a.compact(["cluster"], AFTER) == ("cluster",)
    assert subjects(git_remote)[0] == f"b: decision {COMMITS + 1}"


def test_a_decision_made_before_a_compaction_is_made_again_on_top_of_it(
    pair: tuple[Repository, Repository], git_remote: Remote
) -> None:
    a, b = pair
    tip = polled(b).cluster_oid
    assert a.compact(["cluster"], AFTER) == ("cluster",)
    late = b.publish([decision(COMMITS + 1, tip, "b")], START)
    assert late.landed == {} and late.tips == {"cluster": git_remote.tip("status/cluster")}
    again = polled(b)
    assert read_cluster(again.cluster) == state(COMMITS)
    assert b.publish([decision(COMMITS + 1, again.cluster_oid, "b")], START).landed["cluster"] == git_remote.tip("status/cluster")
    assert len(subjects(git_remote)) == KEPT + 1


def test_a_short_history_and_an_unknown_ref_are_left_alone(pair: tuple[Repository, Repository], git_remote: Remote) -> None:
    a, _ = pair
    before = git_remote.tip("status/cluster")
    assert a.compact(["cluster", "a"], COMMITS + 1) == ()
    assert git_remote.tip("status/cluster") == before


def test_what_is_no_compaction_is_not_pushed_as_one(
    pair: tuple[Repository, Repository], git_remote: Remote, tmp_path: Path
) -> None:
    clone = GitRepository(tmp_path / "c" / "repo.git", GitSettings(url=git_remote.url))
    clone.open()
    tip = clone.fetch().status["cluster"]
    child = clone.commit({"cluster.yaml": b""}, tip, "on top", author="c", when=START)
    with pytest.raises(ValueError, match="replaces no history"):
        clone.push([RefUpdate("cluster", child, tip, compacts=True)])
