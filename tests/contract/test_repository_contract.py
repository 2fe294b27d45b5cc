"""The engine's `GitPort` over the clone in memory and over the real one: what a poll brings and what a publication does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.engine.ports import Publication, Snapshot
from reconciler.engine.repository import Repository
from reconciler.errors import Stalled, Transient
from reconciler.model.desired import Build
from tests.contract.git_beds import FakeBed, GitBed, RealBed
from tests.effects.git_remotes import CONFIG

NONE: frozenset[str] = frozenset()
OTHER = {"cluster.yaml": b"other: {}\n", "projects/shop/Dockerfile": b"FROM x\n", "projects/shop/app.py": b"pass\n"}


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.slow)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GitBed]:
    found = FakeBed() if request.param == "fake" else RealBed(tmp_path)
    yield found
    assert found.struck, "a fault that the test asked for never happened"


@pytest.fixture
def a(bed: GitBed) -> Repository:
    return Repository(bed.clone("a"), "a")


def report(text: str, parent: str | None, ref: str = "a") -> Publication:
    return Publication(ref, {"report.yaml": text.encode()}, parent, f"{ref}: {text}")


def cluster(text: str, parent: str | None) -> Publication:
    return Publication("cluster", {"cluster.yaml": text.encode(), "README.md": b"# Cluster"}, parent, f"decides {text}")


def published(repository: Repository, publication: Publication) -> str:
    oid = repository.publish([publication], 1_700_000_000).landed[publication.ref]
    assert oid is not None
    return oid


def polled(repository: Repository) -> Snapshot:
    return repository.poll(NONE, None)


def test_a_poll_brings_the_files_of_the_tip_and_what_each_server_said(bed: GitBed, a: Repository) -> None:
    tip = bed.commit(OTHER, 'Bump "web"')
    said = bed.commit({"report.yaml": b"server: b"}, "b: x", branch="status/b")
    decided = bed.commit({"cluster.yaml": b"g: 1"}, "decides", branch="status/cluster")
    snapshot = polled(a)
    assert (snapshot.revision.sha, snapshot.revision.subject) == (tip, 'Bump "web"')
    files = snapshot.files[tip]
    assert {path: file.data for path, file in files.items()} == {
        "cluster.yaml": b"other: {}\n",
        "projects/shop/Dockerfile": b"FROM x\n",
        "projects/shop/app.py": None,
    }
    assert (snapshot.cluster, snapshot.cluster_oid) == (b"g: 1", decided)
    assert (snapshot.reports, snapshot.report_oids) == ({"b": b"server: b"}, {"b": said})
    assert (snapshot.rewritten, snapshot.behind, snapshot.error) == (None, False, None)


def test_files_of_an_older_revision_come_when_they_are_needed_and_stay_when_history_goes(bed: GitBed, a: Repository) -> None:
    old = bed.tip() or ""
    bed.commit(OTHER, "Next")
    assert old not in polled(a).files
    snapshot = a.poll(frozenset({old}), None)
    assert snapshot.files[old].keys() == CONFIG.keys()
    bed.commit(OTHER, "Rewritten", orphan=True)
    assert a.poll(frozenset({old}), None).files[old].keys() == CONFIG.keys()
    again = Repository(bed.restarted("a"), "a")
    assert again.poll(frozenset({old}), None).files[old].keys() == CONFIG.keys()


def test_a_revision_that_is_nowhere_is_left_out(bed: GitBed, a: Repository) -> None:
    assert a.poll(frozenset({"1" * 40}), None).files.keys() == {bed.tip()}


def test_a_status_branch_without_its_file_is_no_report(bed: GitBed, a: Repository) -> None:
    oid = bed.commit({"x": b"garbage"}, "Garbage", branch="status/b")
    decided = bed.commit({"x": b"garbage"}, "Garbage", branch="status/cluster")
    snapshot = polled(a)
    assert (snapshot.reports, snapshot.report_oids) == ({}, {"b": oid})
    assert (snapshot.cluster, snapshot.cluster_oid) == (b"", decided)


def test_without_a_cluster_branch_there_is_no_cluster_state(a: Repository) -> None:
    snapshot = polled(a)
    assert (snapshot.cluster, snapshot.cluster_oid) == (None, None)


def test_what_is_published_is_polled(bed: GitBed, a: Repository) -> None:
    polled(a)
    result = a.publish([cluster("g1", None), report("r1", None)], 1)
    assert (result.landed, result.tips, result.error) == (
        {"cluster": bed.tip("status/cluster"), "a": bed.tip("status/a")},
        {},
        None,
    )
    snapshot = polled(Repository(bed.clone("b"), "b"))
    assert (snapshot.cluster, snapshot.reports) == (b"g1", {"a": b"r1"})
    assert bed.show("status/cluster", "README.md") == b"# Cluster"


def test_who_is_second_is_told_the_tip_and_decides_again(bed: GitBed, a: Repository) -> None:
    b = Repository(bed.clone("b"), "b")
    polled(b)
    polled(a)
    first = published(a, cluster("by a", None))
    result = b.publish([cluster("by b", None), report("r", None, "b")], 1)
    assert (result.tips, result.error) == ({"cluster": first}, None)
    assert result.landed == {"b": bed.tip("status/b")}
    assert polled(b).cluster == b"by a"
    assert published(b, cluster("by b", first)) == bed.tip("status/cluster")


def test_who_publishes_on_a_deleted_branch_is_told_so(bed: GitBed, a: Repository) -> None:
    polled(a)
    first = published(a, cluster("g1", None))
    bed.move("status/cluster", None)
    result = a.publish([cluster("g2", first)], 1)
    assert (result.landed, result.tips) == ({}, {"cluster": None})


def test_while_the_host_is_away_nobody_knows(bed: GitBed, a: Repository) -> None:
    polled(a)
    bed.away()
    result = a.publish([report("r1", None)], 1)
    assert (result.landed, result.tips) == ({}, {})
    assert "push" in (result.error or "")
    bed.back()
    assert published(a, report("r1", None)) == bed.tip("status/a")


def test_the_part_of_a_push_that_got_through_has_landed_and_the_rest_is_an_error(bed: GitBed, a: Repository) -> None:
    polled(a)
    bed.answer_lost(applied=1)
    result = a.publish([cluster("g1", None), report("r1", None)], 1)
    assert len(result.landed) == 1
    assert result.error is not None
    (ref,) = result.landed
    assert bed.tip(f"status/{ref}") == result.landed[ref]
    again = a.publish([cluster("g1", None), report("r1", None)], 1)
    assert again.landed == {"cluster": bed.tip("status/cluster"), "a": bed.tip("status/a")}


def test_a_rewound_branch_is_not_believed_at_once(bed: GitBed, a: Repository) -> None:
    """FAULTS 38: a lagging replica shows it for a poll; one that stays is what there is."""
    polled(a)
    first = published(a, report("r1", None))
    second = published(a, report("r2", first))
    polled(a)
    bed.move("status/a", first)
    assert polled(a).report_oids == {"a": second}
    assert polled(a).report_oids == {"a": first}
    assert published(a, report("r3", first)) == bed.tip("status/a")


def test_a_branch_that_catches_up_was_never_rewound(bed: GitBed, a: Repository) -> None:
    polled(a)
    first = published(a, report("r1", None))
    second = published(a, report("r2", first))
    polled(a)
    bed.move("status/a", first)
    assert polled(a).report_oids == {"a": second}
    bed.move("status/a", second)
    assert polled(a).report_oids == {"a": second}
    bed.move("status/a", first)
    assert polled(a).report_oids == {"a": second}


def test_a_deleted_branch_is_not_believed_at_once(bed: GitBed, a: Repository) -> None:
    polled(a)
    first = published(a, cluster("g1", None))
    polled(a)
    bed.move("status/cluster", None)
    assert polled(a).cluster == b"g1"
    gone = polled(a)
    assert (gone.cluster, gone.cluster_oid) == (None, None)
    assert published(a, cluster("g1", None)) != ""
    assert bed.tip("status/cluster") == first  # the same content on the same parent is the same commit


def test_a_replaced_branch_is_believed_at_once(bed: GitBed, a: Repository) -> None:
    polled(a)
    published(a, cluster("g1", None))
    polled(a)
    other = bed.commit({"cluster.yaml": b"other"}, "By hand", branch="status/cluster", orphan=True)
    snapshot = polled(a)
    assert (snapshot.cluster, snapshot.cluster_oid) == (b"other", other)
    assert published(a, cluster("g2", other)) == bed.tip("status/cluster")


def test_another_servers_rewound_branch_is_believed_at_once(bed: GitBed, a: Repository) -> None:
    first = bed.commit({"report.yaml": b"1"}, "b: 1", branch="status/b")
    bed.commit({"report.yaml": b"2"}, "b: 2", branch="status/b")
    polled(a)
    bed.move("status/b", first)
    assert polled(a).reports == {"b": b"1"}


def test_a_rewritten_config_is_told_once(bed: GitBed, a: Repository) -> None:
    old = polled(a).revision.sha
    bed.commit(OTHER, "Rewritten", orphan=True)
    assert polled(a).rewritten == old
    assert polled(a).rewritten is None


def test_a_tip_that_is_older_than_what_is_followed_is_behind(bed: GitBed, a: Repository) -> None:
    first = bed.tip() or ""
    second = bed.commit(OTHER, "Second")
    assert not a.poll(NONE, first).behind
    assert not a.poll(NONE, second).behind
    bed.move("main", first)
    assert a.poll(NONE, second).behind
    assert not a.poll(NONE, "1" * 40).behind


def test_the_last_poll_is_there_without_the_host(bed: GitBed, a: Repository) -> None:
    assert a.last(NONE, None) is None
    before = polled(a)
    bed.away()
    with pytest.raises(Transient):
        polled(a)
    again = Repository(bed.restarted("a"), "a")
    last = again.last(NONE, None)
    assert last is not None
    assert (last.revision, last.files) == (before.revision, before.files)


def test_a_build_context_is_read_from_the_clone(bed: GitBed, a: Repository) -> None:
    tip = bed.commit(OTHER, "Build")
    files = polled(a).files[tip]
    entries = tuple((path.rsplit("/", 1)[1], f.mode, f.oid) for path, f in sorted(files.items()) if path.startswith("projects/"))
    build = Build(context="projects/shop", dockerfile="Dockerfile", tree="0" * 64, files=entries)
    bed.away()
    assert a.context(build) == {"Dockerfile": (0o100644, b"FROM x\n"), "app.py": (0o100644, b"pass\n")}


def test_a_status_file_that_is_too_large_is_the_trouble_of_its_branch_alone(bed: GitBed, a: Repository) -> None:
    tip = bed.commit(OTHER, "config")
    huge = b"x" * (4 * 1024 * 1024 + 1)
    bed.commit({"report.yaml": huge}, "b: x", branch="status/b")
    bed.commit({"report.yaml": b"server: c"}, "c: x", branch="status/c")
    bed.commit({"cluster.yaml": huge}, "decides", branch="status/cluster")
    snapshot = polled(a)
    assert snapshot.revision.sha == tip and snapshot.reports["c"] == b"server: c"
    refused = snapshot.reports["b"]
    assert isinstance(refused, Stalled) and "4194305 bytes" in str(refused)
    assert snapshot.cluster == b"" and snapshot.cluster_oid is not None, "there is one, and it is no cluster state"
