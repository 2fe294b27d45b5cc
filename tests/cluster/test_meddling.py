"""Status branches that somebody deletes, rewinds or overwrites by hand: noticed, told, mended, and nothing is restarted."""

from __future__ import annotations

import pytest

from tests.cluster.bed import Bed

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
BOTH = {"servers_count": 2}
RESTARTED = "containers were started or ended though nothing but a status branch was moved"


def held(bed: Bed) -> str:
    """What the last decision says keeps the service from being rolled out."""
    return bed.cluster().services["shop/prod/web"].held or ""


def test_a_lost_report_holds_up_who_waits_for_it_and_is_written_again_by_its_server(bed: Bed) -> None:
    """A lost report blocks, never excuses: b, whose daemon is dead, is waited for by name although nobody knows what it said."""
    bed.begin({"web": bed.web("1", **BOTH)}, bed.inventory("a", "b"))
    before = bed.running("web", "a", "b")
    with bed.load("a", "b") as traffic:
        bed.remote.move("status/b", None)
        bed.eventually(lambda: bed.report("b").serving is not None, 60, "b to write its report again")
        assert bed.running("web", "a", "b") == before, RESTARTED
        bed.server("b").kill()
        bed.remote.move("status/b", None)
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: held(bed) or bed.rollout("web").startswith("staging"), 120, "web to be held, or rolled out")
        assert "workers of b may" in held(bed), f"b, whose report is lost, is not waited for by name: {held(bed)!r}\n{bed.story()}"
        assert bed.live("web") == {"a": "primary", "b": "primary"}, "switched without b"
        assert bed.running("web", "a", "b") == before, "something was staged where b's nginx may send requests"
        assert bed.remote.tip("status/b") is None, "somebody wrote the report of b, whose daemon is dead"
        bed.server("b").run()
        bed.settle(second, "a", "b")
        bed.nothing_lost(traffic.stop())


def test_a_rewound_report_and_a_decision_of_garbage_are_mended_from_what_runs(bed: Bed) -> None:
    bed.begin({"web": bed.web("1", **BOTH)}, bed.inventory("a", "b"))
    old = bed.remote.tip("status/b")
    with bed.load("a", "b") as traffic:
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.settle(second, "a", "b")
        before, state = bed.running("web", "a", "b"), bed.cluster()
        bed.remote.move("status/b", old)
        newest = (state.epoch, state.generation)
        mended = "b to write its report again over the old one that status/b was moved back to"
        bed.eventually(lambda: (s := bed.report("b").serving) and (s.epoch, s.generation) == newest, 120, mended)
        assert bed.cluster().epoch == state.epoch, "a report is no reason for a new epoch"

        bed.remote.commit({"cluster.yaml": "by hand: [\n"}, "oops", branch="status/cluster")
        bed.eventually(lambda: bed.cluster().epoch != state.epoch, 60, "the decision, now garbage, to be rebuilt under a new epoch")
        bed.settle(second, "a", "b")
        told = f"no decision says what was wrong with the one before\n{bed.story()}"
        assert any("status/cluster is not YAML" in line for line in bed.decisions()), told
        assert bed.running("web", "a", "b") == before, RESTARTED
        third = bed.commit({"web": bed.web("3", **BOTH)}, "Bump web to 3")
        bed.settle(third, "a", "b")
        bed.nothing_lost(traffic.stop())
    assert bed.server("a").version() == bed.server("b").version() == "3"
