"""Servers with two versions of the program: who meets what a newer one wrote waits, and says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.bed import Bed
from tests.cluster.member import ROOT

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
BOTH = {"servers_count": 2}


@pytest.fixture
def newer(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """A copy of the program, changed in one place, as a newer version would be: (file, text, what stands there instead)."""

    def copy(file: str, old: str, new: str) -> Path:
        shutil.copytree(ROOT / "reconciler", tmp_path / "reconciler", ignore=shutil.ignore_patterns("__pycache__"))
        path = tmp_path / "reconciler" / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new))
        return tmp_path

    return copy


def test_a_decision_with_a_newer_schema_is_waited_for_and_nothing_is_guessed(
    bed: Bed, newer: Callable[[str, str, str], Path]
) -> None:
    bed.begin({"web": bed.web("1", **BOTH)}, bed.inventory("a", "b"))
    a, b = bed.server("a"), bed.server("b")
    with bed.load("a", "b") as traffic:
        b.stop()
        b.program = newer("model/cluster.py", "SCHEMA = 1\n", "SCHEMA = 2\n")
        a.freeze()  # so that it is b who decides
        b.run()
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: "\nschema: 2\n" in "\n" + bed.remote.show("status/cluster", "cluster.yaml"), 90, "b to decide")
        before, pushes = a.ids(), bed.git_host.pushes
        a.thaw()
        says = "status/cluster has schema 2, this program knows 1: upgrade this server's program"
        bed.eventually(lambda: says in bed.conditions("a") or a.ids() != before, 120, "a's report to say what it waits for")
        assert a.ids() == before, f"a did something by a decision with a newer schema than it knows\n{bed.story()}"
        fetches = bed.git_host.fetches
        bed.eventually(lambda: bed.git_host.fetches > fetches + 10, 60, "more polls")
        assert a.ids() == before, f"a did something by a decision that it cannot read\n{bed.story()}"
        assert bed.git_host.pushes <= pushes + 4, "pushes that can only be rejected"
        assert bed.live("web") == {"a": "primary", "b": "primary"}
        a.stop()
        a.program = b.program
        a.run()
        print(f"\nwith the newer program on both: {bed.settle(second, 'a', 'b', seconds=120):.1f} s")
        bed.eventually(lambda: says not in bed.conditions("a"), 120, "a's report to be in order")
        bed.nothing_lost(traffic.stop())
    assert a.version() == b.version() == "2"


def test_a_report_with_a_newer_schema_holds_up_the_rollout_and_its_server_is_named(
    bed: Bed, newer: Callable[[str, str, str], Path]
) -> None:
    """Whoever cannot read a vote does not count it: nothing is switched, although the vote that is written there is a yes."""
    bed.begin({"web": bed.web("1", **BOTH)}, bed.inventory("a", "b"))
    a, b = bed.server("a"), bed.server("b")
    with bed.load("a", "b") as traffic:
        b.stop()
        b.program = newer("model/report.py", 'default=1, alias="schema"', 'default=2, alias="schema"')
        (b.program / "reconciler/engine/reports.py").write_text(
            (ROOT / "reconciler/engine/reports.py").read_text().replace("SCHEMA = 1\n", "SCHEMA = 2\n")
        )
        a.freeze()  # so that b has voted, and decides nothing any more, before a reads the vote
        b.run()
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: "ready" in {entry.phase for entry in bed.report("b").instances}, 90, "b to vote")
        assert "\nschema: 2\n" in "\n" + bed.remote.show("status/b", "report.yaml"), "b's report has the newer schema"
        b.freeze()
        a.thaw()
        says = "status/b: schema 2 is newer than 1, which this program knows: upgrade this server"
        bed.eventually(lambda: says in bed.conditions("a"), 120, "a's report to say what it waits for")
        bed.eventually(lambda: "ready" in {entry.phase for entry in bed.report("a").instances}, 90, "a to vote")
        fetches = bed.git_host.fetches
        bed.eventually(lambda: bed.git_host.fetches > fetches + 5, 60, "more polls")
        live = {"a": "primary", "b": "primary"}
        assert bed.live("web") == live, f"switched by a vote in a report that a cannot read\n{bed.story()}"
        a.stop()
        a.program = b.program
        b.thaw()
        a.run()
        bed.settle(second, "a", "b", seconds=120)
        bed.eventually(lambda: says not in bed.conditions("a"), 120, "a's report to be in order")
        bed.nothing_lost(traffic.stop())
    assert a.version() == b.version() == "2"
