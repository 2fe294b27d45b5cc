"""Status branches that somebody deletes, rewinds or overwrites by hand: noticed, told, mended, and nothing is restarted."""

from __future__ import annotations

import pytest

from tests.cluster.bed import Bed

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
BOTH = {"servers_count": 2}


def test_a_lost_report_holds_up_who_waits_for_it_and_is_written_again_by_its_server(bed: Bed) -> None:
    """A lost report blocks, never excuses: b, whose daemon is dead, is waited for by name although nobody knows what it said."""
    bed.begin({"web": bed.web("1", **BOTH)}, bed.inventory("a", "b"))
    before = bed.running("web", "a", "b")
    with bed.load("a", "b") as traffic:
        bed.remote.move("status/b", None)
        bed.eventually(lambda: bed.report("b").serving is not None, 60, "b to write its report again")
        assert bed.running("web", "a", "b") == before
        bed.server("b").kill()
        bed.remote.move("status/b", None)
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: "workers of b may" in (bed.cluster().services["shop/prod/web"].held or ""), 120, "b to be named")
        assert bed.live("web") == {"a": "primary", "b": "primary"}, "switched without b"
        assert bed.running("web", "a", "b") == before, "something was staged where b's nginx may send requests"
        assert bed.remote.tip("status/b") is None
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
        bed.eventually(lambda: (s := bed.report("b").serving) and (s.epoch, s.generation) == newest, 120, "b's report to be itself")
        assert bed.cluster().epoch == state.epoch, "a report is no reason for a new epoch"

        bed.remote.commit({"cluster.yaml": "by hand: [\n"}, "oops", branch="status/cluster")
        bed.eventually(lambda: bed.cluster().epoch != state.epoch, 60, "a new epoch")
        bed.settle(second, "a", "b")
        assert any("status/cluster is not YAML" in line for line in bed.decisions()), bed.decisions()
        assert bed.running("web", "a", "b") == before
        third = bed.commit({"web": bed.web("3", **BOTH)}, "Bump web to 3")
        bed.settle(third, "a", "b")
        bed.nothing_lost(traffic.stop())
    assert bed.server("a").version() == bed.server("b").version() == "3"
