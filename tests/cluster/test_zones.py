"""Two zones: each server's own backends first, the other zone's behind them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.cluster.bed import Bed

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
ZONES = {"a": "lon1", "b": "ams1", "c": "ams1"}


def services(bed: Bed, version: str = "1") -> dict[str, Mapping[str, object]]:
    """`web` in both zones, `far` in one of them alone."""
    return {"web": bed.web(version, servers_count=3), "far": bed.app(version, servers_count=2, server_zone="ams1")}


def test_another_zone_takes_over_when_a_zones_own_backends_are_gone_and_no_longer_when_they_are_back(bed: Bed) -> None:
    bed.begin(services(bed), bed.inventory(*ZONES, zones=ZONES))
    a, b, c = (bed.server(name) for name in ZONES)
    near, others = {a.host_name("shop_prod_web")}, {b.host_name("shop_prod_web"), c.host_name("shop_prod_web")}
    assert set(bed.live("far")) == {"b", "c"}
    with bed.load("a", mesh="far") as there, bed.load("b") as traffic:
        assert a.answers() == near, "a, whose own zone has one backend, which is well, sent requests to another zone"
        assert b.answers() == c.answers() == others, "b and c, with two backends in their zone, did not use both and them alone"

        a.freeze()  # so that it does not put the instance back at once
        a.engine.client.containers.get("shop_prod_web_sidecar").kill()
        # Nobody ends the connections into a namespace that is gone: a request on one that the edge has kept (for 1 s) is under way.
        bed.eventually(lambda: a.answers() == others, 60, "both of the other zone's backends to stand in for the one that is gone")
        assert a.answers() == others, "not both of the other zone's backends stand in for the one of a's zone, which is gone"
        assert b.answers() == c.answers() == others, "b and c did not use the backends of their own zone, which are well"
        sent = there.now.sent
        bed.eventually(lambda: there.now.sent > sent + 100, 60, "what was under way to have ended")
        lost = there.now.failed
        bed.eventually(lambda: there.now.sent > sent + 400, 60, "traffic to go on")
        a.thaw()
        bed.eventually(lambda: a.answers() == {a.host_name("shop_prod_web")}, 60, "its own backend to have everything again")

        second = bed.commit(services(bed, "2"), "Bump both to 2")
        print(f"\ntwo zones: {bed.settle(second, *ZONES, seconds=120):.1f} s")
        assert a.answers() == {a.host_name("shop_prod_web_secondary")}, "a did not use its own zone's new backend alone"
        seen = there.stop()
        assert seen.failed == lost <= 7, f"{lost} lost when the instance ended (7 may be), {seen.failed} in all\n{seen.errors}"
        bed.nothing_lost(traffic.stop())
    assert {a.version(), b.version(), c.version()} == {"2"}
