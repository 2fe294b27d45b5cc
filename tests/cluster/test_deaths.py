"""A server that loses its power after the switch, and one that does while its old instance drains."""

from __future__ import annotations

import pytest

from tests.cluster.bed import Bed
from tests.cluster.rollouts import waited

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
BOTH = {"servers_count": 2}
OLD, NEW = "shop_prod_web", "shop_prod_web_secondary"


def applications(bed: Bed, name: str) -> set[str]:
    """The instances of the service that run on a server."""
    return {container for container in bed.server(name).ids(OLD) if not container.endswith("_sidecar")}


def test_a_server_that_dies_after_the_switch_is_waited_for_then_passed_over_and_comes_back_switched(bed: Bed) -> None:
    bed.begin({"web": bed.web("1", **BOTH)}, bed.inventory("a", "b", ack_timeout="15s"))
    a, b = bed.server("a"), bed.server("b")
    with bed.load("a") as traffic:
        a.freeze()  # so that b has voted before a completes the vote
        second = bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: "ready" in {entry.phase for entry in bed.report("b").instances}, 90, "b to vote")
        b.freeze()
        a.thaw()
        bed.eventually(lambda: bed.live("web") == {"a": "secondary", "b": "secondary"}, 60, "the switch")
        switched = bed.cluster().generation
        b.power_off()
        over = "b to be passed over after ack_timeout"
        bed.eventually(lambda: bed.rollout("web").startswith("done") or OLD not in applications(bed, "a"), 90, over)
        assert bed.rollout("web").startswith("done"), f"a ended its old instance while b was waited for\n{bed.story()}"
        took = waited(bed, "shop/prod/web")
        assert took >= 15, f"b, silent, was passed over {took} s after the switch: before ack_timeout (15 s)\n{bed.story()}"
        assert any("b silent for 15 s" in line for line in bed.decisions()), f"no decision says why b is passed over\n{bed.story()}"
        bed.eventually(lambda: applications(bed, "a") == {NEW}, 60, "a's old instance to drain")
        sent = traffic.now.sent
        bed.eventually(lambda: traffic.now.sent > sent + 600, 60, "traffic to go on")
        b.power_on()
        bed.settle(second, "a", "b", seconds=120)
        bed.eventually(lambda: applications(bed, "b") == {NEW}, 60, "b to run what is live and nothing else")
        bed.eventually(lambda: b.version() == "2", 30, "b's edge to serve version 2")
        bed.eventually(lambda: len(a.answers()) == 2, 60, "a to send requests to b again")
        seen = traffic.stop()
    print(f"\n{seen.sent} requests, {seen.failed} lost with b; generation {switched}")
    bed.only_under_way(seen)


def test_a_server_that_dies_while_it_drains_comes_back_without_what_drained(bed: Bed) -> None:
    bed.begin({"web": bed.web("1", drain={"timeout": "120s"}, **BOTH)}, bed.inventory("a", "b"))
    a, b = bed.server("a"), bed.server("b")
    port = next(x.port for x in bed.cluster().services["shop/prod/web"].backends if x.server == "b" and x.role == "live")
    assert port is not None
    with bed.load("a") as traffic, b.namespace.connect(port, 10.0):  # an open connection keeps the old instance from ending
        second = bed.commit({"web": bed.web("2", drain={"timeout": "120s"}, **BOTH)}, "Bump web to 2")
        bed.eventually(lambda: set(bed.live("web").values()) == {"secondary"}, 90, "the switch")
        bed.eventually(lambda: bed.rollout("web").startswith("done"), 90, "the switch to be acknowledged by everybody")
        # At once: ten seconds later it would be told to finish.
        assert applications(bed, "b") == {OLD, NEW}, "b's old instance has ended although a connection to it is open"
        b.power_off()
        bed.eventually(lambda: applications(bed, "a") == {NEW}, 60, "a's old instance to drain")
        sent = traffic.now.sent
        bed.eventually(lambda: traffic.now.sent > sent + 300, 60, "traffic to go on")
        b.power_on()
        bed.eventually(lambda: applications(bed, "b") == {NEW}, 90, "b to run what is live and nothing else")
        bed.settle(second, "a", "b")
        bed.eventually(lambda: b.version() == "2", 30, "b's edge to serve version 2")
        third = bed.commit({"web": bed.web("3", **BOTH)}, "Bump web to 3")
        print(f"\nthe slot that drained is used again: {bed.settle(third, 'a', 'b', seconds=150):.1f} s")
        seen = traffic.stop()
    print(f"{seen.sent} requests, {seen.failed} lost with b")
    bed.only_under_way(seen)
    assert a.version() == b.version() == "3"
