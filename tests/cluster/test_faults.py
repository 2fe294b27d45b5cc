"""Faults of one server, of its network and of the Git host, with traffic: what is lost is only what the fault itself took."""

from __future__ import annotations

import pytest

from reconciler.engine.worth import OWN_WORD_SECONDS
from tests.cluster.bed import SLOW_START, Bed
from tests.cluster.rollouts import waited

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
BOTH = {"servers_count": 2}
QUICKLY = "8s"


@pytest.fixture
def two(bed: Bed) -> Bed:
    """Two servers that serve version 1, and wait for a silent one for `QUICKLY`."""
    bed.run("a", "b")
    bed.deploy({"web": bed.web("1", **BOTH)}, "First", bed.inventory("a", "b", ack_timeout=QUICKLY), "a", "b")
    bed.eventually(lambda: bed.server("a").version() == bed.server("b").version() == "1", 10, "both edges to serve")
    return bed


def test_a_server_cut_off_from_git_keeps_serving_and_catches_up(two: Bed) -> None:
    """The cut begins in the middle of a rollout: nothing is switched without the server's vote."""
    bed = two
    with bed.load("a", "b") as traffic:
        bed.partition("b", from_="git")
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: bed.cluster().config == second, 60, "a to decide")
        # Nobody but itself waits for a's word, so that it may rest for a while.
        told = OWN_WORD_SECONDS + 30
        bed.eventually(lambda: "ready" in {entry.phase for entry in bed.report("a").instances}, told, "a to vote")
        assert bed.live("web") == {"a": "primary", "b": "primary"}, "switched without b"
        bed.heal("b")
        bed.settle(second, "a", "b")
        seen = traffic.stop()
    bed.nothing_lost(seen)
    assert bed.server("a").version() == bed.server("b").version() == "2"


def test_a_server_cut_off_from_the_others_but_not_from_git_loses_only_what_went_between(two: Bed) -> None:
    """Its own edge serves from its own instance, the others mask it, and a rollout goes on through Git."""
    bed = two
    with bed.load("a") as traffic:
        bed.server("b").namespace.cut(bed.server("a").address)
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.settle(second, "a", "b", seconds=120)
        bed.heal("b")
        seen = traffic.stop()
    assert bed.server("a").version() == bed.server("b").version() == "2"
    # A request to the other backend fails after proxy_connect_timeout and goes to the next one, unless it was under way.
    assert seen.failed <= 3, seen.errors


@pytest.mark.parametrize("fault", ["dead", "frozen"])
def test_a_daemon_that_does_nothing_lets_one_toggle_pass_after_ack_timeout_and_the_next_one_waits_for_it_by_name(
    two: Bed, fault: str
) -> None:
    """FAULTS 2: its nginx goes on with the old configuration, whose fallback reaches the new slot."""
    bed = two
    b, key = bed.server("b"), "shop/prod/front"

    def services(version: str) -> dict[str, dict[str, object]]:
        return {"web": bed.web("1", **BOTH), "front": bed.app(version, servers=["a"])}

    def through_b() -> str:
        """The version of `front` that b's instance of `web` reaches at its localhost, through its own sidecar."""
        port = bed.port("front")
        return b.shell(
            "shop_prod_web", "python3", "-c", f"import urllib.request as u; print(u.urlopen('http://localhost:{port}/').read())"
        )

    bed.deploy(services("1"), "front on a alone", None, "a", "b")
    with bed.load("a", "b", mesh="front") as traffic:
        b.kill() if fault == "dead" else b.freeze()
        second = bed.commit(services("2"), "Bump front to 2")
        bed.eventually(lambda: bed.cluster().config == second and bed.live("front") == {"a": "secondary"}, 60, "the switch")
        bed.eventually(lambda: "shop_prod_front" not in bed.server("a").ids(), 60, "the old instance to go after ack_timeout")
        took = waited(bed, key)
        assert took >= float(QUICKLY.rstrip("s")), (
            f"b, silent, was passed over {took} s after the switch: before ack_timeout ({QUICKLY})"
        )
        third = bed.commit(services("3"), "Bump front to 3")
        bed.eventually(lambda: bed.cluster().config == third, 60, "a to follow")
        bed.eventually(lambda: "nginx workers of b " in (bed.cluster().services[key].held or ""), 60, "the next one to wait for b")
        sent = traffic.now.sent
        bed.eventually(lambda: traffic.now.sent > sent + 400, 60, "traffic to go on")
        assert bed.live("front") == {"a": "secondary"}
        assert "shop_prod_front" not in bed.server("a").ids(), "something was started where b's nginx may send requests"
        assert '"version": "2"' in through_b()
        b.run() if fault == "dead" else b.thaw()
        bed.settle(third, "a", "b", seconds=120)
        assert bed.live("front") == {"a": "primary"} and '"version": "3"' in through_b()
        bed.nothing_lost(traffic.stop())


def test_a_frozen_daemon_holds_up_the_switch_of_its_own_instances_and_is_named(two: Bed) -> None:
    bed = two
    with bed.load("a", "b") as traffic:
        bed.server("b").freeze()
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: bed.cluster().config == second, 60, "a to decide")
        bed.eventually(lambda: len(bed.report("a").instances) == 2, 60, "a to stage")
        assert bed.live("web") == {"a": "primary", "b": "primary"}
        bed.server("b").thaw()
        bed.settle(second, "a", "b")
        bed.nothing_lost(traffic.stop())


def test_a_server_that_loses_its_power_is_masked_and_comes_back_as_it_was(two: Bed) -> None:
    """Docker, its containers and the daemon end at once; the rest of the cluster answers, but for what was under way on it."""
    bed = two
    with bed.load("a") as traffic:
        before = traffic.now.sent
        bed.server("b").power_off()
        bed.eventually(lambda: traffic.now.sent > before + 600, 60, "traffic to go on")
        bed.server("b").power_on()
        bed.eventually(lambda: bed.server("b").version() == "1", 90, "b to serve again")
        revision = bed.remote.tip("main")
        assert revision is not None
        bed.settle(revision, "a", "b")
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.settle(second, "a", "b")
        seen = traffic.stop()
    print(f"\n{seen.sent} requests, {seen.failed} lost with the server that died")
    bed.only_under_way(seen)


def test_status_branches_that_are_deleted_are_rebuilt_from_what_runs(two: Bed) -> None:
    bed = two
    before = {name: bed.server(name).ids() for name in ("a", "b")}
    epoch = bed.cluster().epoch
    with bed.load("a", "b") as traffic:
        for branch in [name for name in bed.remote.branches() if name.startswith("status/")]:
            bed.remote.move(branch, None)
        revision = bed.remote.tip("main")
        assert revision is not None
        bed.eventually(lambda: bed.cluster().epoch != epoch, 60, "a new epoch")
        bed.settle(revision, "a", "b")
        assert {name: bed.server(name).ids() for name in ("a", "b")} == before, "something was restarted"
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.settle(second, "a", "b")
        bed.nothing_lost(traffic.stop())


def test_the_git_host_is_away_in_the_middle_of_a_rollout(two: Bed) -> None:
    bed = two
    with bed.load("a", "b") as traffic:
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: bed.cluster().config == second, 60, "the rollout to begin")
        for name in ("a", "b"):
            bed.partition(name, from_="git")
        before = traffic.now.sent
        bed.eventually(lambda: traffic.now.sent > before + 400, 60, "traffic to go on")
        for name in ("a", "b"):
            bed.heal(name)
        bed.settle(second, "a", "b", seconds=120)
        bed.nothing_lost(traffic.stop())


def test_a_newcomer_in_the_middle_of_a_rollout_joins_without_a_loss(two: Bed) -> None:
    bed = two
    with bed.load("a", "b") as traffic:
        bed.commit({"web": bed.web("2", **SLOW_START, **BOTH)}, "Bump web to 2", bed.inventory("a", "b", "c", ack_timeout=QUICKLY))
        bed.eventually(lambda: bed.rollout("web").startswith("staging"), 30, "the rollout to begin")
        bed.run("c")
        third = bed.commit({"web": bed.web("3", servers_count=3)}, "On three servers")
        bed.settle(third, "a", "b", "c", seconds=120)
        bed.nothing_lost(traffic.stop())
    assert {bed.server(name).version() for name in ("a", "b", "c")} == {"3"}
