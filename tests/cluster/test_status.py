"""The status branches among several servers: quiet when nothing happens, mended when meddled with, one machine for each name."""

from __future__ import annotations

import pytest

from reconciler.engine.publishing import RIDE_SECONDS
from tests.cluster.bed import SLOW_START, Bed

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
BOTH = {"servers_count": 2}


@pytest.fixture
def two(bed: Bed) -> Bed:
    """Two servers that serve version 1."""
    bed.run("a", "b")
    bed.deploy({"web": bed.web("1", **BOTH)}, "First", bed.inventory("a", "b"), "a", "b")
    bed.eventually(lambda: bed.server("a").version() == bed.server("b").version() == "1", 10, "both edges to serve")
    return bed


def polls(bed: Bed, more: int) -> None:
    """Waits until the servers have come to the Git host so many times more."""
    until = bed.git_host.fetches + more
    bed.eventually(lambda: bed.git_host.fetches >= until, 240, f"{more} more polls")


def test_a_steady_state_pushes_nothing_and_touches_no_container(two: Bed) -> None:
    bed = two
    bed.eventually(lambda: "Reconciled" in {c.reason for n in ("a", "b") for c in bed.report(n).conditions}, 30, "the last words")
    polls(bed, 12)  # reports that nobody waits for have gone by now
    pushes, branches, before = bed.git_host.pushes, bed.remote.branches(), {name: bed.server(name).ids() for name in ("a", "b")}
    polls(bed, int(RIDE_SECONDS) + 15)  # each server polls every two seconds: longer than anything rests that is to be said
    assert bed.git_host.pushes == pushes, f"{bed.git_host.pushes - pushes} pushes though nothing happened\n{bed.story()}"
    assert {name: bed.server(name).ids() for name in ("a", "b")} == before, "containers were started or ended for nothing"
    assert bed.remote.branches() == branches, "branches were moved though nothing happened"


def test_a_rewound_decision_is_noticed_and_what_runs_stays(two: Bed) -> None:
    bed = two
    old = bed.remote.tip("status/cluster")
    second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
    bed.settle(second, "a", "b")
    before, epoch = bed.running("web", "a", "b"), bed.cluster().epoch
    with bed.load("a", "b") as traffic:
        bed.remote.move("status/cluster", old)
        rebuilt = "the decision that was moved back to be rebuilt, under a new epoch"
        bed.eventually(lambda: bed.cluster().epoch != epoch or bed.running("web", "a", "b") != before, 60, rebuilt)
        assert bed.running("web", "a", "b") == before, f"the older decision was followed: instances came or went\n{bed.story()}"
        bed.settle(second, "a", "b")
        assert bed.running("web", "a", "b") == before, f"instances came or went for a branch that was moved\n{bed.story()}"
        assert any("rewound" in line for line in bed.decisions()), f"no decision says what was noticed\n{bed.story()}"
        bed.nothing_lost(traffic.stop())


def test_a_second_machine_with_a_servers_name_does_nothing_and_names_the_first(two: Bed) -> None:
    bed = two
    first = bed.report("a").instance
    impostor = bed.server("c")
    impostor.settings["server"] = "a"
    impostor.run()
    impostor.says(f"another machine (instance {first}) reports as a", 60)
    assert impostor.ids() == {}, "the second machine called a has started something"
    second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
    bed.settle(second, "a", "b")
    assert bed.report("a").instance == first, f"the second machine called a has written a's report\n{bed.story()}"
    assert impostor.ids() == {}, "the second machine called a has started something"


def test_a_server_that_dies_while_it_stages_holds_up_the_switch_until_it_is_back(two: Bed) -> None:
    bed = two
    live = bed.server("a").ids("shop_prod_web")
    with bed.load("a") as traffic:
        second = bed.commit({"web": bed.web("2", **SLOW_START, **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: "shop_prod_web_secondary" in bed.server("b").ids(), 60, "b to stage")
        bed.server("b").power_off()
        bed.eventually(lambda: "ready" in {entry.phase for entry in bed.report("a").instances}, 60, "a to vote")
        assert bed.live("web") == {"a": "primary", "b": "primary"}, f"switched without b, which is dead\n{bed.story()}"
        assert live.items() <= bed.server("a").ids("shop_prod_web").items(), "what is live on a was restarted or ended"
        bed.server("b").power_on()
        bed.eventually(lambda: bed.live("web") == {"a": "secondary", "b": "secondary"}, 150, "another attempt to succeed")
        bed.settle(second, "a", "b", seconds=60)
        seen = traffic.stop()
    bed.only_under_way(seen)
    assert bed.server("a").version() == bed.server("b").version() == "2", bed.story()


def test_the_first_server_of_a_service_leaves_the_inventory_while_its_daemon_is_dead(two: Bed) -> None:
    """The operator's word that no traffic enters there: nobody waits for it."""
    bed = two
    with bed.load("b") as traffic:
        bed.server("a").kill()
        out = bed.commit({"web": bed.web("1", servers_count=1)}, "a is out", bed.inventory("b"))
        bed.settle(out, "b")
        assert set(bed.live("web")) == {"b"}
        third = bed.commit({"web": bed.web("2", servers_count=1)}, "Bump web to 2")
        bed.settle(third, "b")
        bed.nothing_lost(traffic.stop())
