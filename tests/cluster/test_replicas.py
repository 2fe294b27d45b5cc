"""Two replicas on each of two servers: one that ends, and one that hangs, is one backend less for everybody."""

from __future__ import annotations

import pytest

from tests.cluster.bed import Bed

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
TWICE = {"servers_count": 2, "replicas": 2}
PUBLIC = {"hosts": ["shop.example"], "read_timeout": "3s"}


def instances(bed: Bed, slot: str = "") -> set[str]:
    """The host names of all four."""
    return {bed.server(name).host_name(f"shop_prod_web{replica}{slot}") for name in ("a", "b") for replica in ("", "_r2")}


def test_a_replica_that_ends_is_one_backend_less_and_a_rollout_switches_all_four(bed: Bed) -> None:
    bed.begin({"web": bed.web("1", **TWICE)}, bed.inventory("a", "b"))
    a, b = bed.server("a"), bed.server("b")
    four = instances(bed)
    assert len(four) == 4 and a.answers(40) == b.answers(40) == four, "a and b did not use all four instances and them alone"
    with bed.load("a") as traffic:
        b.freeze()  # so that it does not put the replica back at once
        ended = {b.host_name("shop_prod_web_r2")}
        b.engine.client.containers.get("shop_prod_web_r2").stop(timeout=20)
        assert a.answers(40) == b.answers(40) == four - ended, "a and b did not use the three that are left and them alone"
        b.thaw()
        bed.eventually(lambda: a.answers(40) == b.answers(40) == four, 60, "the replica to be put back")
        bed.nothing_lost(traffic.stop())
    with bed.load("a", "b") as traffic:
        second = bed.commit({"web": bed.web("2", **TWICE)}, "Bump web to 2")
        print(f"\nfour instances: {bed.settle(second, 'a', 'b', seconds=120):.1f} s")
        assert a.answers(40) == b.answers(40) == instances(bed, "_secondary"), "a and b did not use the four new ones alone"
        bed.nothing_lost(traffic.stop())


def test_a_replica_that_hangs_is_passed_over_by_each_server_until_it_answers_again(bed: Bed) -> None:
    """Its kernel accepts connections, so that nginx alone would send it requests for ever."""
    bed.begin({"web": {**bed.web("1", **TWICE), "public": PUBLIC}}, bed.inventory("a", "b"))
    a, b = bed.server("a"), bed.server("b")
    four, generation, before = instances(bed), bed.cluster().generation, bed.running("web", "a", "b")
    hanging = b.engine.client.containers.get("shop_prod_web_r2")
    with bed.load("a", "b") as traffic:
        hanging.kill("SIGSTOP")
        for name in ("a", "b"):
            told = f"{name}'s report to say that it passes over a backend of b"
            bed.eventually(lambda: "BackendMasked" in {c.type for c in bed.report(name).conditions}, 120, told)  # noqa: B023
            assert " on b gets no requests from here" in bed.conditions(name)
        lost = traffic.now.failed
        left = four - {b.host_name("shop_prod_web_r2")}
        assert a.answers(40) == b.answers(40) == left, "a and b did not use the three that answer and them alone"
        sent = traffic.now.sent
        bed.eventually(lambda: traffic.now.sent > sent + 500, 60, "traffic to go on")
        assert traffic.now.failed == lost, "requests were lost to a backend that is passed over:\n" + traffic.now.errors
        hanging.kill("SIGCONT")
        bed.eventually(lambda: a.answers(40) == b.answers(40) == four, 60, "it to be used again")
        seen = traffic.stop()
    print(f"\n{seen.sent} requests, {lost} lost to the replica that hung")
    assert seen.failed == lost, f"{seen.failed - lost} requests were lost when it came back\n{seen.errors}"
    assert bed.cluster().generation == generation, f"a mask is a server's own, and no reason for a generation\n{bed.story()}"
    assert bed.running("web", "a", "b") == before, "containers were started or ended for one that hung"
