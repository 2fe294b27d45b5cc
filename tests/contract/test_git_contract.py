"""The clone in memory keeps the promises of the real one: what is fetched, what a push may do, what is believed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.effects.git_failure import GitUnavailable
from reconciler.errors import Stalled, Transient
from reconciler.model.revision import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SUBMODULE,
    MODE_SYMLINK,
    Landed,
    PushResult,
    RefUpdate,
    Rejected,
    Rewrite,
    Stale,
    Unknown,
)
from tests.contract.git_beds import Clone, FakeBed, GitBed, RealBed
from tests.effects.git_remotes import CONFIG

OTHER = {"cluster.yaml": b"other: {}\n"}
NOBODY = "1" * 40


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.slow)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GitBed]:
    found = FakeBed() if request.param == "fake" else RealBed(tmp_path)
    yield found
    assert found.struck, "a fault that the test asked for never happened"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.slow)])
def apart(request: pytest.FixtureRequest, tmp_path: Path) -> GitBed:
    """The status branches in a repository of their own; the faults are there."""
    return FakeBed(apart=True) if request.param == "fake" else RealBed(tmp_path, apart=True)


@pytest.fixture
def a(bed: GitBed) -> Clone:
    clone = bed.clone("a")
    clone.fetch()
    return clone


def said(clone: Clone, parent: str | None, text: str = "x", when: int = 1_700_000_000) -> str:
    """A report as a commit."""
    return clone.commit({"report.yaml": text.encode()}, parent, f"a: {text}", author="a", when=when)


def pushed(clone: Clone, ref: str, new: str, old: str | None, *, compacts: bool = False) -> PushResult:
    return clone.push([RefUpdate(ref, new, old, compacts=compacts)])[ref]


def landed(clone: Clone, *texts: str, ref: str = "a", parent: str | None = None) -> list[str]:
    """A history of reports, each pushed on its own."""
    history: list[str] = []
    for text in texts:
        before = history[-1] if history else parent
        history.append(said(clone, before, text))
        assert pushed(clone, ref, history[-1], before) == Landed()
    return history


# Fetching


def test_a_fetch_brings_config_and_status_and_nothing_else(bed: GitBed) -> None:
    status = bed.commit({"report.yaml": b"b"}, "Report", branch="status/b")
    side = bed.commit({"x": b""}, "Side", branch="feature/x")
    clone = bed.clone("a")
    refs = clone.fetch()
    assert (refs.config, refs.status) == (bed.tip(), {"b": status})
    assert (refs.forced, refs.stale, refs.lost) == (None, {}, ())
    with pytest.raises(Transient):
        clone.commit_info(side)


def test_nothing_is_known_before_the_first_fetch(bed: GitBed) -> None:
    assert bed.clone("a").known() is None


def test_a_fetch_that_finds_nothing_new_says_the_same(a: Clone) -> None:
    assert a.fetch() == a.fetch()


def test_a_new_config_commit_is_followed_without_a_word(bed: GitBed, a: Clone) -> None:
    new = bed.commit(OTHER, "Next")
    refs = a.fetch()
    assert (refs.config, refs.forced) == (new, None)


def test_several_commits_at_once_are_no_rewriting(bed: GitBed, a: Clone) -> None:
    bed.commit(OTHER, "One")
    bed.commit(CONFIG, "Two")
    refs = a.fetch()
    assert (refs.config, refs.forced) == (bed.tip(), None)


def test_a_merge_is_no_rewriting(bed: GitBed, a: Clone) -> None:
    start = bed.tip()
    side = bed.commit(OTHER, "Side", branch="side", parent=start or "")
    bed.commit(CONFIG, "Meanwhile")
    merge = bed.merge(side)
    refs = a.fetch()
    assert (refs.config, refs.forced) == (merge, None)
    assert a.is_ancestor(side, merge)


def test_a_rewritten_config_branch_is_reported_once_with_both_ends(bed: GitBed, a: Clone) -> None:
    old = bed.tip()
    new = bed.commit(OTHER, "Rewritten", orphan=True)
    assert a.fetch().forced == Rewrite(old or "", new)
    assert a.fetch().forced is None


def test_an_amended_config_commit_is_a_rewriting(bed: GitBed, a: Clone) -> None:
    start = bed.tip() or ""
    first = bed.commit(OTHER, "First")
    a.fetch()
    amended = bed.commit({"cluster.yaml": b"better: {}\n"}, "First, amended", parent=start)
    assert a.fetch().forced == Rewrite(first, amended)


def test_a_config_branch_set_back_is_reported_and_going_on_is_not(bed: GitBed, a: Clone) -> None:
    first = bed.tip() or ""
    second = bed.commit(OTHER, "Second")
    a.fetch()
    bed.move("main", first)
    assert a.fetch().forced == Rewrite(second, first)
    bed.move("main", second)
    assert a.fetch().forced is None


def test_a_rewriting_is_reported_to_the_next_start_of_the_program_too(bed: GitBed, a: Clone) -> None:
    old = bed.tip() or ""
    new = bed.commit(OTHER, "Rewritten", orphan=True)
    assert bed.restarted("a").fetch().forced == Rewrite(old, new)


def test_a_missing_config_branch_is_an_error_and_changes_nothing(bed: GitBed, a: Clone) -> None:
    """FAULTS 41: never an empty config."""
    before = a.known()
    bed.commit({"report.yaml": b"b"}, "Report", branch="status/b")
    bed.move("main", None)
    with pytest.raises(GitUnavailable) as error:
        a.fetch()
    assert error.value.reason == "BranchMissing"
    assert a.known() == before


def test_a_config_branch_that_comes_back_is_followed_on(bed: GitBed, a: Clone) -> None:
    tip = bed.tip() or ""
    bed.move("main", None)
    with pytest.raises(GitUnavailable):
        a.fetch()
    bed.move("main", tip)
    refs = a.fetch()
    assert (refs.config, refs.forced) == (tip, None)


def test_a_host_that_is_away_leaves_what_was_fetched(bed: GitBed, a: Clone) -> None:
    status = bed.commit({"report.yaml": b"b"}, "Report", branch="status/b")
    refs = a.fetch()
    bed.away()
    with pytest.raises(Transient):
        a.fetch()
    known = a.known()
    assert known is not None
    assert (known.config, known.status) == (refs.config, {"b": status})
    assert a.read_file("config", "cluster.yaml") == CONFIG["cluster.yaml"]
    assert a.read_file("status/b", "report.yaml") == b"b"


def test_a_host_that_is_back_is_heard(bed: GitBed, a: Clone) -> None:
    bed.away()
    with pytest.raises(Transient):
        a.fetch()
    bed.back()
    new = bed.commit(OTHER, "Next")
    assert a.fetch().config == new


def test_what_was_fetched_outlives_the_program(bed: GitBed, a: Clone) -> None:
    bed.away()
    again = bed.restarted("a")
    known = again.known()
    assert known is not None
    assert again.read_tree(known.config).keys() == CONFIG.keys()


def test_a_lost_disk_knows_nothing_and_is_told_everything(bed: GitBed, a: Clone) -> None:
    (one, two) = landed(a, "one", "two")
    bed.move("status/a", one)
    clone = bed.lost("a")
    assert clone.known() is None
    refs = clone.fetch()
    assert (refs.config, refs.status) == (bed.tip(), {"a": one})
    assert (refs.forced, refs.stale) == (None, {})
    with pytest.raises(Transient):
        clone.commit_info(two)


def test_a_deleted_status_branch_is_gone_and_a_new_one_is_seen(bed: GitBed, a: Clone) -> None:
    """FAULTS 35."""
    bed.commit({"report.yaml": b"b"}, "Report", branch="status/b")
    assert set(a.fetch().status) == {"b"}
    bed.move("status/b", None)
    bed.commit({"report.yaml": b"c"}, "Report", branch="status/c")
    assert set(a.fetch().status) == {"c"}


def test_a_replaced_status_branch_of_another_server_is_read_as_it_is(bed: GitBed, a: Clone) -> None:
    bed.commit({"report.yaml": b"b"}, "Report", branch="status/b")
    a.fetch()
    new = bed.commit({"report.yaml": b"new"}, "New", branch="status/b", orphan=True)
    refs = a.fetch()
    assert (refs.status, refs.stale) == ({"b": new}, {})
    assert a.read_file("status/b", "report.yaml") == b"new"


def test_the_config_of_a_host_is_fetched_while_the_host_of_the_status_is_away(apart: GitBed) -> None:
    a = apart.clone("a")
    (first,) = landed(a, "one") if a.fetch() else [""]
    new = apart.commit(OTHER, "Next")
    apart.away()
    with pytest.raises(Transient):
        a.fetch()
    known = a.known()
    assert known is not None
    assert (known.config, known.status) == (new, {"a": first})
    apart.back()
    refs = a.fetch()
    assert (refs.config, refs.forced, refs.status) == (new, None, {"a": first})


def test_status_apart_is_pushed_there_alone(apart: GitBed) -> None:
    a = apart.clone("a")
    a.fetch()
    (first,) = landed(a, "one")
    assert apart.tip("status/a") == first
    assert apart.clone("b").fetch().status == {"a": first}


# Pushing


def test_a_push_creates_then_moves_and_the_others_see_it(bed: GitBed, a: Clone) -> None:
    one, two = landed(a, "one", "two")
    assert bed.tip("status/a") == two
    b = bed.clone("b")
    assert b.fetch().status == {"a": two}
    assert b.read_file("status/a", "report.yaml") == b"two"
    assert b.is_ancestor(one, two)


def test_a_push_that_landed_is_known_without_a_fetch(a: Clone) -> None:
    (one,) = landed(a, "one")
    known = a.known()
    assert known is not None
    assert known.status == {"a": one}
    assert a.read_file("status/a", "report.yaml") == b"one"


def test_an_empty_push_does_nothing(a: Clone) -> None:
    assert a.push([]) == {}


def test_several_refs_go_in_one_push(bed: GitBed, a: Clone) -> None:
    own, cluster = said(a, None), a.commit({"cluster.yaml": b"1"}, None, "g1", author="a", when=1)
    assert a.push([RefUpdate("a", own, None), RefUpdate("cluster", cluster, None)]) == {"a": Landed(), "cluster": Landed()}
    assert (bed.tip("status/a"), bed.tip("status/cluster")) == (own, cluster)


def test_one_ref_that_lost_its_race_does_not_hold_back_the_others(bed: GitBed, a: Clone) -> None:
    """FAULTS 32."""
    theirs = bed.commit({"cluster.yaml": b"theirs"}, "Decided", branch="status/cluster")
    mine = a.commit({"cluster.yaml": b"mine"}, None, "Mine", author="a", when=1)
    own = said(a, None)
    results = a.push([RefUpdate("cluster", mine, None), RefUpdate("a", own, None)])
    assert results == {"cluster": Rejected(theirs), "a": Landed()}
    assert bed.tip("status/cluster") == theirs
    assert a.read_file("status/cluster", "cluster.yaml") == b"theirs"


def test_of_two_that_create_the_first_wins(bed: GitBed, a: Clone) -> None:
    b = bed.clone("b")
    b.fetch()
    first, second = said(a, None, "a"), said(b, None, "b")
    assert pushed(a, "cluster", first, None) == Landed()
    assert pushed(b, "cluster", second, None) == Rejected(first)
    assert bed.tip("status/cluster") == first


def test_of_two_that_move_the_first_wins_and_the_second_decides_again(bed: GitBed, a: Clone) -> None:
    (start,) = landed(a, "start", ref="cluster")
    b = bed.clone("b")
    b.fetch()
    first, second = said(a, start, "a"), said(b, start, "b")
    assert pushed(a, "cluster", first, start) == Landed()
    assert pushed(b, "cluster", second, start) == Rejected(first)
    again = said(b, first, "b")
    assert pushed(b, "cluster", again, first) == Landed()
    assert bed.tip("status/cluster") == again


def test_two_that_take_turns_make_one_history(bed: GitBed, a: Clone) -> None:
    clones = [a, bed.clone("b")]
    tip: str | None = None
    for number in range(6):
        clone = clones[number % 2]
        clone.fetch()
        new = said(clone, tip, str(number))
        assert pushed(clone, "cluster", new, tip) == Landed()
        tip = new
    assert bed.length("status/cluster") == 6


def test_a_view_that_is_two_moves_old_loses(bed: GitBed, a: Clone) -> None:
    b = bed.clone("b")
    b.fetch()
    (start,) = landed(a, "start", ref="cluster")
    b.fetch()
    *_, tip = landed(a, "one", "two", ref="cluster", parent=start)
    assert pushed(b, "cluster", said(b, start, "late"), start) == Rejected(tip)


def test_whoever_is_overtaken_on_the_way_is_told_by_whom(bed: GitBed, a: Clone) -> None:
    """Both saw the same tip; the other one's push arrives between our look and our move."""
    (start,) = landed(a, "start", ref="cluster")
    theirs = bed.commit({"cluster.yaml": b"theirs"}, "Theirs", branch="side", parent=start)
    bed.overtaken("status/cluster", theirs)
    assert pushed(a, "cluster", said(a, start, "mine"), start) == Rejected(theirs)
    assert bed.tip("status/cluster") == theirs


def test_whoever_is_overtaken_by_a_deletion_does_not_resurrect(bed: GitBed, a: Clone) -> None:
    (start,) = landed(a, "start", ref="cluster")
    bed.overtaken("status/cluster", None)
    assert pushed(a, "cluster", said(a, start, "mine"), start) == Rejected(None)
    assert bed.tip("status/cluster") is None


def test_whoever_is_overtaken_while_creating_does_not_overwrite(bed: GitBed, a: Clone) -> None:
    theirs = bed.commit({"cluster.yaml": b"theirs"}, "Theirs", branch="side")
    bed.overtaken("status/cluster", theirs)
    assert pushed(a, "cluster", said(a, None, "mine"), None) == Rejected(theirs)
    assert bed.tip("status/cluster") == theirs


def test_only_a_child_of_what_was_read_may_be_pushed(bed: GitBed, a: Clone) -> None:
    """FAULTS 35, 42: a lease alone would accept unrelated history."""
    (first,) = landed(a, "first")
    with pytest.raises(ValueError, match="expected"):
        a.push([RefUpdate("a", said(a, None, "unrelated"), first)])
    with pytest.raises(ValueError, match="expected None"):
        a.push([RefUpdate("b", said(a, first), None)])
    assert (bed.tip("status/a"), bed.tip("status/b")) == (first, None)


@pytest.mark.parametrize("name", ["", "../main", "-x", "a b", "x.lock", "a//b", "+a", "a:refs/heads/main"])
def test_what_cannot_be_a_ref_is_refused(a: Clone, name: str) -> None:
    with pytest.raises(ValueError, match="name of a ref"):
        a.push([RefUpdate(name, said(a, None), None)])


def test_a_commit_that_nobody_made_cannot_be_pushed(a: Clone) -> None:
    with pytest.raises(Transient, match="not in the clone"):
        a.push([RefUpdate("a", NOBODY, None)])


def test_the_same_push_again_has_landed(a: Clone) -> None:
    one, two = landed(a, "one", "two")
    assert pushed(a, "a", two, one) == Landed()


def test_a_push_repeated_after_others_built_on_it_has_landed(bed: GitBed, a: Clone) -> None:
    """FAULTS 33: contained in the tip means applied, whoever moved the tip since."""
    (one,) = landed(a, "one", ref="cluster")
    tip = bed.commit({"cluster.yaml": b"2"}, "two", branch="status/cluster")
    assert pushed(a, "cluster", one, None) == Landed()
    assert bed.tip("status/cluster") == tip
    assert a.fetch().status["cluster"] == tip


def test_a_deleted_branch_is_not_resurrected(bed: GitBed, a: Clone) -> None:
    """FAULTS 35."""
    (one,) = landed(a, "one")
    bed.move("status/a", None)
    assert pushed(a, "a", said(a, one, "two"), one) == Rejected(None)
    assert bed.tip("status/a") is None


def test_a_deleted_branch_is_made_anew_from_nothing(bed: GitBed, a: Clone) -> None:
    landed(a, "one")
    bed.move("status/a", None)
    a.fetch()
    again = said(a, None, "again")
    assert pushed(a, "a", again, None) == Landed()
    assert bed.tip("status/a") == again


def test_a_rewound_branch_is_not_moved_forward_unseen(bed: GitBed, a: Clone) -> None:
    """FAULTS 35: it may be an older view, so that nothing is known."""
    one, two = landed(a, "one", "two")
    bed.move("status/a", one)
    assert isinstance(pushed(a, "a", said(a, two, "three"), two), Unknown)
    assert bed.tip("status/a") == one


def test_a_branch_that_was_rewound_to_our_parent_takes_the_push_again(bed: GitBed, a: Clone) -> None:
    one, two = landed(a, "one", "two")
    bed.move("status/a", one)
    assert pushed(a, "a", two, one) == Landed()
    assert bed.tip("status/a") == two


def test_a_commit_that_a_branch_had_lost_is_in_it_again(bed: GitBed, a: Clone) -> None:
    one, two = landed(a, "one", "two")
    bed.move("status/a", one)
    a.fetch()
    new = a.commit({"report.yaml": b"three"}, one, "a: three", author="a", when=1_700_000_100, merges=two)
    assert a.commit_info(new).parents == (one, two)
    assert a.push([RefUpdate("a", new, one, merges=two)])["a"] == Landed()
    assert bed.tip("status/a") == new and a.is_ancestor(two, new)


def test_a_deleted_branch_takes_a_commit_that_goes_on_from_what_it_was(bed: GitBed, a: Clone) -> None:
    (one,) = landed(a, "one")
    bed.move("status/a", None)
    a.fetch()
    new = a.commit({"report.yaml": b"two"}, None, "a: two", author="a", when=1_700_000_100, merges=one)
    assert a.push([RefUpdate("a", new, None, merges=one)])["a"] == Landed()
    assert (bed.tip("status/a"), bed.length("status/a")) == (new, 2)


def test_a_commit_with_parents_that_nobody_spoke_of_is_not_pushed(bed: GitBed, a: Clone) -> None:
    one, two = landed(a, "one", "two")
    bed.move("status/a", one)
    new = a.commit({"report.yaml": b"three"}, one, "a: three", author="a", when=1_700_000_100, merges=two)
    with pytest.raises(ValueError, match="has parents"):
        a.push([RefUpdate("a", new, one)])


def test_a_replaced_branch_rejects(bed: GitBed, a: Clone) -> None:
    (one,) = landed(a, "one")
    other = bed.commit({"x": b"other"}, "Other", branch="status/a", orphan=True)
    assert pushed(a, "a", said(a, one, "two"), one) == Rejected(other)
    assert bed.tip("status/a") == other


def test_a_branch_with_a_sibling_of_ours_rejects(bed: GitBed, a: Clone) -> None:
    one, two = landed(a, "one", "two")
    sibling = bed.commit({"report.yaml": b"sibling"}, "Sibling", branch="status/a", parent=one)
    assert pushed(a, "a", said(a, two, "three"), two) == Rejected(sibling)


def test_a_branch_that_reappears_with_other_history_rejects_a_creation(bed: GitBed, a: Clone) -> None:
    other = bed.commit({"x": b"other"}, "Other", branch="status/a")
    assert pushed(a, "a", said(a, None), None) == Rejected(other)


def test_a_compaction_replaces_the_history_it_has_read(bed: GitBed, a: Clone) -> None:
    _, two = landed(a, "one", "two", ref="cluster")
    root = said(a, None, "compacted")
    assert pushed(a, "cluster", root, two, compacts=True) == Landed()
    assert (bed.tip("status/cluster"), bed.length("status/cluster")) == (root, 1)
    refs = a.fetch()
    assert (refs.status, refs.stale) == ({"cluster": root}, {})


def test_a_compaction_that_is_overtaken_replaces_nothing(bed: GitBed, a: Clone) -> None:
    _, two = landed(a, "one", "two", ref="cluster")
    three = bed.commit({"cluster.yaml": b"3"}, "three", branch="status/cluster")
    assert pushed(a, "cluster", said(a, None, "compacted"), two, compacts=True) == Rejected(three)
    assert bed.tip("status/cluster") == three


def test_somebody_elses_compaction_is_not_pushed_over(bed: GitBed, a: Clone) -> None:
    b = bed.clone("b")
    (one,) = landed(a, "one", ref="cluster")
    b.fetch()
    root = said(b, None, "compacted")
    assert pushed(b, "cluster", root, one, compacts=True) == Landed()
    assert pushed(a, "cluster", said(a, one, "two"), one) == Rejected(root)


# Pushes whose outcome is unknown


def test_nothing_is_pushed_while_the_host_is_away(bed: GitBed, a: Clone) -> None:
    bed.away()
    one = said(a, None)
    assert isinstance(pushed(a, "a", one, None), Unknown)
    bed.back()
    assert bed.tip("status/a") is None
    assert pushed(a, "a", one, None) == Landed()


def test_a_push_whose_answer_is_lost_after_it_was_applied_has_landed(bed: GitBed, a: Clone) -> None:
    """FAULTS 33: history tells."""
    bed.answer_lost(applied=1)
    one = said(a, None)
    assert pushed(a, "a", one, None) == Landed()
    assert bed.tip("status/a") == one


def test_a_push_that_was_lost_on_its_way_is_unknown_and_may_be_repeated(bed: GitBed, a: Clone) -> None:
    (one,) = landed(a, "one")
    bed.answer_lost(applied=0)
    two = said(a, one, "two")
    assert isinstance(pushed(a, "a", two, one), Unknown)
    assert bed.tip("status/a") == one
    assert pushed(a, "a", two, one) == Landed()


def test_a_creation_that_was_lost_on_its_way_is_unknown(bed: GitBed, a: Clone) -> None:
    bed.answer_lost(applied=0)
    one = said(a, None)
    assert isinstance(pushed(a, "a", one, None), Unknown)
    assert pushed(a, "a", one, None) == Landed()


def test_a_push_that_was_applied_before_the_host_went_away_shows_when_it_is_back(bed: GitBed, a: Clone) -> None:
    bed.answer_lost(applied=1, then_away=True)
    one = said(a, None)
    assert isinstance(pushed(a, "a", one, None), Unknown)
    with pytest.raises(Transient):
        a.fetch()
    bed.back()
    assert a.fetch().status == {"a": one}
    assert pushed(a, "a", one, None) == Landed()


def test_a_push_that_was_not_applied_before_the_host_went_away_is_still_to_be_made(bed: GitBed, a: Clone) -> None:
    (one,) = landed(a, "one")
    bed.answer_lost(applied=0, then_away=True)
    two = said(a, one, "two")
    assert isinstance(pushed(a, "a", two, one), Unknown)
    bed.back()
    refs = a.fetch()
    assert (refs.status, refs.stale) == ({"a": one}, {})
    assert pushed(a, "a", two, one) == Landed()


def test_of_two_refs_one_may_be_applied_before_the_line_breaks(bed: GitBed, a: Clone) -> None:
    bed.answer_lost(applied=1)
    new = {"a": said(a, None, "own"), "cluster": said(a, None, "cluster")}
    results = a.push([RefUpdate(ref, sha, None) for ref, sha in new.items()])
    applied = [ref for ref, sha in new.items() if bed.tip(f"status/{ref}") == sha]
    assert len(applied) == 1
    assert [ref for ref, result in results.items() if result == Landed()] == applied
    assert sum(isinstance(result, Unknown) for result in results.values()) == 1
    assert a.push([RefUpdate(ref, sha, None) for ref, sha in new.items()]) == {"a": Landed(), "cluster": Landed()}


def test_all_refs_may_be_applied_before_the_line_breaks(bed: GitBed, a: Clone) -> None:
    bed.answer_lost(applied=2)
    new = {"a": said(a, None, "own"), "cluster": said(a, None, "cluster")}
    assert a.push([RefUpdate(ref, sha, None) for ref, sha in new.items()]) == {"a": Landed(), "cluster": Landed()}


def test_a_lost_push_that_comes_through_later_is_seen(bed: GitBed, a: Clone) -> None:
    bed.answer_lost(applied=0)
    one = said(a, None)
    assert isinstance(pushed(a, "a", one, None), Unknown)
    bed.arrives("a", "a", one)
    assert a.fetch().status == {"a": one}
    assert pushed(a, "a", one, None) == Landed()


def test_a_lost_push_that_comes_through_later_beats_the_one_made_instead(bed: GitBed, a: Clone) -> None:
    """So whoever does not know repeats the same push, or fetches first."""
    (start,) = landed(a, "start")
    bed.answer_lost(applied=0)
    first = said(a, start, "first")
    assert isinstance(pushed(a, "a", first, start), Unknown)
    bed.arrives("a", "a", first)
    assert pushed(a, "a", said(a, start, "instead"), start) == Rejected(first)
    assert bed.tip("status/a") == first


def test_a_push_that_was_lost_and_overtaken_is_rejected(bed: GitBed, a: Clone) -> None:
    (start,) = landed(a, "start", ref="cluster")
    bed.answer_lost(applied=0, then_away=True)
    mine = said(a, start, "mine")
    assert isinstance(pushed(a, "cluster", mine, start), Unknown)
    bed.back()
    theirs = bed.commit({"cluster.yaml": b"theirs"}, "Theirs", branch="status/cluster")
    assert pushed(a, "cluster", mine, start) == Rejected(theirs)


def test_a_push_that_was_applied_unheard_and_built_upon_has_landed(bed: GitBed, a: Clone) -> None:
    bed.answer_lost(applied=1, then_away=True)
    one = said(a, None)
    assert isinstance(pushed(a, "cluster", one, None), Unknown)
    bed.back()
    bed.commit({"cluster.yaml": b"2"}, "two", branch="status/cluster")
    assert pushed(a, "cluster", one, None) == Landed()


def test_a_push_that_was_applied_unheard_is_remembered_as_ours_only_once_seen(bed: GitBed, a: Clone) -> None:
    bed.answer_lost(applied=1, then_away=True)
    one = said(a, None)
    assert isinstance(pushed(a, "a", one, None), Unknown)
    bed.back()
    bed.move("status/a", None)
    refs = a.fetch()
    assert (refs.status, refs.stale) == ({}, {})


# What is believed after a push


def test_a_rewound_branch_is_stale_until_it_is_accepted(bed: GitBed, a: Clone) -> None:
    """FAULTS 38: nothing is planned from a view older than our own last write."""
    one, two = landed(a, "one", "two")
    bed.move("status/a", one)
    assert a.fetch().stale == {"a": Stale(two, one, behind=True)}
    assert a.fetch().stale == {"a": Stale(two, one, behind=True)}
    a.accept("a")
    assert a.fetch().stale == {}
    again = said(a, one, "again")
    assert pushed(a, "a", again, one) == Landed()


def test_a_replica_that_lags_catches_up(bed: GitBed, a: Clone) -> None:
    one, two = landed(a, "one", "two")
    bed.move("status/a", one)
    assert a.fetch().stale["a"].behind
    bed.move("status/a", two)
    refs = a.fetch()
    assert (refs.status, refs.stale) == ({"a": two}, {})


def test_a_stale_branch_is_stale_to_the_next_start_of_the_program(bed: GitBed, a: Clone) -> None:
    one, two = landed(a, "one", "two")
    bed.move("status/a", one)
    assert bed.restarted("a").fetch().stale == {"a": Stale(two, one, behind=True)}


def test_a_deleted_branch_is_stale_and_behind(bed: GitBed, a: Clone) -> None:
    (one,) = landed(a, "one")
    bed.move("status/a", None)
    assert a.fetch().stale == {"a": Stale(one, None, behind=True)}


def test_a_replaced_branch_is_stale_and_not_behind(bed: GitBed, a: Clone) -> None:
    (one,) = landed(a, "one")
    other = bed.commit({"x": b"other"}, "Other", branch="status/a", orphan=True)
    assert a.fetch().stale == {"a": Stale(one, other, behind=False)}
    a.accept("a")
    assert a.fetch().stale == {}
    assert pushed(a, "a", said(a, other, "healed"), other) == Landed()


def test_what_others_build_on_ours_is_not_stale(bed: GitBed, a: Clone) -> None:
    landed(a, "one", ref="cluster")
    tip = bed.commit({"cluster.yaml": b"2"}, "two", branch="status/cluster")
    refs = a.fetch()
    assert (refs.status, refs.stale) == ({"cluster": tip}, {})


def test_only_who_pushed_calls_it_stale(bed: GitBed, a: Clone) -> None:
    one, _ = landed(a, "one", "two")
    b = bed.clone("b")
    b.fetch()
    bed.move("status/a", one)
    refs = b.fetch()
    assert (refs.status, refs.stale) == ({"a": one}, {})


def test_accepting_what_is_not_stale_forgets_our_push(bed: GitBed, a: Clone) -> None:
    one, _ = landed(a, "one", "two")
    a.accept("a")
    a.accept("nothing")
    bed.move("status/a", one)
    assert a.fetch().stale == {}


def test_a_rejected_push_leaves_no_memory(bed: GitBed, a: Clone) -> None:
    theirs = bed.commit({"cluster.yaml": b"theirs"}, "Theirs", branch="status/cluster")
    assert pushed(a, "cluster", said(a, None), None) == Rejected(theirs)
    assert a.fetch().stale == {}


# Keeping


def test_a_kept_revision_outlives_rewriting_and_restarts(bed: GitBed, a: Clone) -> None:
    old = bed.tip() or ""
    a.keep("live/x", old)
    bed.commit(OTHER, "Rewritten", orphan=True)
    a.fetch()
    again = bed.restarted("a")
    assert again.kept() == {"live/x": old}
    assert again.read_tree(old).keys() == CONFIG.keys()
    assert again.read_file("kept/live/x", "cluster.yaml") == CONFIG["cluster.yaml"]


def test_dropping_is_forgetting_once(bed: GitBed, a: Clone) -> None:
    a.keep("live/x", bed.tip() or "")
    a.drop("live/x")
    a.drop("live/x")
    assert a.kept() == {}
    assert bed.clone("b").kept() == {}


def test_a_name_that_is_kept_again_moves(bed: GitBed, a: Clone) -> None:
    a.keep("x", bed.tip() or "")
    new = bed.commit(OTHER, "Next")
    a.fetch()
    a.keep("x", new)
    assert a.kept() == {"x": new}


def test_only_what_is_there_can_be_kept(a: Clone) -> None:
    with pytest.raises(Transient, match="not in the clone"):
        a.keep("x", NOBODY)
    with pytest.raises(ValueError, match="name of a ref"):
        a.keep("../x", said(a, None))
    assert a.kept() == {}


# Reading


def test_a_tree_holds_what_it_is_asked_for_and_links_are_no_files(bed: GitBed) -> None:
    """FAULTS 49."""
    bed.commit(
        {
            "cluster.yaml": (MODE_SYMLINK, b"/etc/passwd"),
            "README.md": b"not config",
            "projects/shop/prod.yaml": b"x",
            "projects/shop/run": (MODE_EXECUTABLE, b"#!"),
            "projects/sub": (MODE_SUBMODULE, NOBODY.encode()),
            "other/projects/a.yaml": b"x",
        },
        "Traps",
    )
    clone = bed.clone("a")
    tree = clone.read_tree(clone.fetch().config)
    assert {path: (entry.mode, entry.size) for path, entry in tree.items()} == {
        "cluster.yaml": (MODE_SYMLINK, 11),
        "projects/shop/prod.yaml": (MODE_FILE, 1),
        "projects/shop/run": (MODE_EXECUTABLE, 2),
        "projects/sub": (MODE_SUBMODULE, 0),
    }
    assert clone.read_file("config", "cluster.yaml") is None
    assert clone.read_file("config", "README.md") == b"not config"
    assert clone.read_file("config", "projects/shop") is None
    assert clone.read_blob(tree["projects/shop/run"].oid) == b"#!"
    assert list(clone.read_tree(clone.fetch().config, ("README.md",))) == ["README.md"]


def test_equal_contents_have_equal_ids_and_others_have_not(bed: GitBed, a: Clone) -> None:
    first = a.read_tree(bed.tip() or "")
    second_sha = bed.commit({**CONFIG, "projects/a.yaml": CONFIG["cluster.yaml"], "projects/b.yaml": b"other"}, "More")
    a.fetch()
    second = a.read_tree(second_sha)
    assert second["projects/a.yaml"].oid == second["cluster.yaml"].oid == first["cluster.yaml"].oid
    assert second["projects/b.yaml"].oid != first["cluster.yaml"].oid
    assert a.changed_between(bed.tip() or "", second_sha) == frozenset()
    old = next(info.sha for info in a.log("config", 9) if info.subject == "Start")
    assert a.changed_between(old, second_sha) == {"projects/a.yaml", "projects/b.yaml"}


def test_what_is_not_there_is_none_and_what_was_not_fetched_raises(bed: GitBed, a: Clone) -> None:
    assert a.read_file("status/nobody", "report.yaml") is None
    assert a.read_file("kept/nobody", "report.yaml") is None
    assert a.read_file("config", "nothing") is None
    unseen = bed.commit(OTHER, "Unseen")
    for read in (a.read_tree, a.commit_info, lambda sha: a.read_file(sha, "cluster.yaml")):
        with pytest.raises(Transient, match="fetch first"):
            read(unseen)
    with pytest.raises(Transient):
        a.read_blob(NOBODY)


def test_a_large_file_is_listed_and_not_read(bed: GitBed, a: Clone) -> None:
    """FAULTS 48."""
    bed.commit({"cluster.yaml": b"x" * 5_000_000}, "Large")
    entry = a.read_tree(a.fetch().config)["cluster.yaml"]
    assert entry.size == 5_000_000
    with pytest.raises(Stalled, match="5000000 bytes; at most 4194304"):
        a.read_blob(entry.oid)
    assert len(a.read_blob(entry.oid, limit=5_000_000)) == 5_000_000


def test_ancestry(bed: GitBed, a: Clone) -> None:
    first = bed.tip() or ""
    side = bed.commit(OTHER, "Side", branch="side", parent=first)
    second = bed.commit(OTHER, "Second")
    merge = bed.merge(side)
    later = bed.commit(CONFIG, "Later")
    a.fetch()
    assert all(a.is_ancestor(commit, later) for commit in (first, side, second, merge, later))
    assert not a.is_ancestor(later, merge)
    assert not a.is_ancestor(side, second)
    assert not a.is_ancestor(NOBODY, later)
    with pytest.raises(Transient, match="not in the clone"):
        a.is_ancestor(first, NOBODY)


def test_a_history_is_read_newest_first(a: Clone) -> None:
    shas: list[str] = []
    for number in range(4):
        shas.append(said(a, shas[-1] if shas else None, f"n{number}", when=1_700_000_000 + number))
        assert pushed(a, "a", shas[-1], shas[-2] if number else None) == Landed()
    assert [info.sha for info in a.log("status/a", 10)] == shas[::-1]
    assert [info.subject for info in a.log("status/a", 2)] == ["a: n3", "a: n2"]
    assert a.log("status/nobody", 3) == []


def test_a_commit_says_who_and_what(a: Clone) -> None:
    parent = said(a, None)
    message = "a: live\x1b now\n\nServer: a\nGeneration: 4\n"
    info = a.commit_info(a.commit({"report.yaml": b"x"}, parent, message, author="a", when=1_700_000_000))
    assert (info.subject, info.message, info.parents) == ("a: live? now", message, (parent,))
    assert (info.author_name, info.when_iso) == ("reconciler", "2023-11-14T22:13:20+00:00")


def test_the_same_commit_has_the_same_id_and_any_difference_another(a: Clone) -> None:
    first = said(a, None, "x", when=1)
    assert said(a, None, "x", when=1) == first
    others = {said(a, None, "y", when=1), said(a, None, "x", when=2), said(a, first, "x", when=1)}
    others.add(a.commit({"report.yml": b"x"}, None, "a: x", author="a", when=1))
    others.add(a.commit({"report.yaml": b"x"}, None, "a: x", author="b", when=1))
    others.add(a.commit({"report.yaml": b"x"}, None, "b: x", author="a", when=1))
    assert len(others | {first}) == 7
