"""Two servers, real parts: the first deployment, a toggle, a version that fails on one of them, a revert."""

from __future__ import annotations

import pytest

from tests.cluster.bed import QUICK, Bed
from tests.cluster.traffic import Traffic

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]  # with the time to lay the ground; each wait has its own
BOTH = {"servers_count": 2, "health": {**QUICK, "retries": 150}}
"""On both, and healthy when it has started, however busy the machine is."""


def test_an_update_is_switched_by_every_server_before_anything_drains_and_loses_nothing(bed: Bed) -> None:
    bed.run("a", "b")
    first = bed.commit({"web": bed.web("1", **BOTH), "api": bed.app("1", **BOTH)}, "First", bed.inventory("a", "b"))
    took = bed.settle(first, "a", "b")
    print(f"\nfirst deploy on two servers: {took:.1f} s, {bed.git_host.pushes} pushes, {bed.git_host.fetches} fetches")
    bed.eventually(lambda: bed.server("a").version() == bed.server("b").version() == "1", 60, "both edges to serve")
    before = bed.git_host.pushes
    with bed.load("a", "b", mesh="api") as traffic:
        _answered(bed, traffic, "1")
        second = bed.commit({"web": bed.web("2", **BOTH), "api": bed.app("2", **BOTH)}, "Bump both to 2")
        took = bed.settle(second, "a", "b")
        print(f"update of two services: {took:.1f} s, {bed.git_host.pushes - before} pushes")
        _answered(bed, traffic, "2")
        seen = traffic.stop()
    print(f"{seen.sent} requests, {seen.failed} lost")
    bed.nothing_lost(seen)
    assert {"1", "2"} == set(seen.versions("a")) == set(seen.versions("b"))
    assert bed.live("web") == bed.live("api") == {"a": "secondary", "b": "secondary"}
    for name in ("a", "b"):
        applications = {n for n in bed.server(name).ids("shop_prod_") if "sidecar" not in n}
        assert applications == {"shop_prod_web_secondary", "shop_prod_api_secondary"}
        addresses = bed.server(name).published()
        assert set().union(*(addresses[n] for n in addresses if n != "nginx")) == {bed.server(name).address}
    _drained_only_after_both_acknowledged(bed)


def test_a_version_that_is_unhealthy_on_one_server_is_switched_on_none_and_a_revert_clears_it(bed: Bed) -> None:
    bed.run("a", "b")
    flag = {"volumes": {"flag": {"target": "/flag", "read_only": True}}, **BOTH}
    bed.deploy({"web": bed.web("1", **flag)}, "First", bed.inventory("a", "b"), "a", "b")
    bed.server("b").engine.client.containers.run(
        bed.images.app, ["touch", "/flag/bad"], entrypoint=[], remove=True, volumes={"shop_prod_flag": {"bind": "/flag"}}
    )
    before = {name: bed.server(name).ids("shop_prod_") for name in ("a", "b")}
    with bed.load("a", "b") as traffic:
        _answered(bed, traffic, "1")
        bad = bed.commit({"web": bed.web("2", env={"DIE_IF_EXISTS": "/flag/bad"}, **flag)}, "Bump web to 2")
        bed.eventually(lambda: bed.rollout("web").startswith("aborted: b: "), 150, "the abort to name b")
        bed.eventually(lambda: {n: bed.server(n).ids("shop_prod_") for n in before} == before, 90, "staged instances to be gone")
        state = bed.cluster().services["shop/prod/web"]
        assert state.rejected is not None and state.rejected.revision == bad
        assert bed.live("web") == {"a": "primary", "b": "primary"}

        good = bed.remote.revert(bad)
        bed.settle(good, "a", "b")
        third = bed.commit({"web": bed.web("3", **flag)}, "Bump web to 3")
        bed.settle(third, "a", "b")
        _answered(bed, traffic, "3")
        bed.remote.revert(third)
        bed.eventually(lambda: bed.converged(bed.remote.tip("main"), ("a", "b")), 180, "the revert to be served")
        seen = traffic.stop()
    bed.nothing_lost(seen)
    assert set(seen.versions("a")) == set(seen.versions("b")) == {"1", "3"}, "version 2 got traffic"
    assert bed.server("a").version() == bed.server("b").version() == "1"


def _answered(bed: Bed, traffic: Traffic, version: str) -> None:
    """Waits until clients of both edges have been answered by that version."""
    bed.eventually(lambda: all(version in traffic.now.versions(name) for name in ("a", "b")), 60, f"an answer of {version}")


def _drained_only_after_both_acknowledged(bed: Bed) -> None:
    """For each decision that lets the old ones go, every member's report of that time said that it serves the switch's generation.

    A report that goes with the decision, in one push, counts: both have the same time.
    """
    drained = 0
    for commit in bed.remote.log("status/cluster"):
        state = bed.cluster(commit.sha)
        for service in state.services.values():
            rollout = service.rollout
            if rollout is None or rollout.phase != "done" or rollout.switched_at is None:
                continue
            drained += 1
            for member in state.members:
                since = bed.written("status/cluster", commit.sha)
                told = [c.sha for c in bed.remote.log(f"status/{member}") if bed.written(f"status/{member}", c.sha) <= since]
                generations = [r.serving.generation for sha in told if (r := bed.report(member, sha)).serving is not None]
                assert max(generations, default=0) >= rollout.switched_at, f"{member} had not acknowledged\n{bed.story()}"
    assert drained, "no decision drained anything: " + "\n".join(bed.decisions())
