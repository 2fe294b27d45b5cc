"""An nginx of one server that does not take its configuration: what it still uses stays, everywhere."""

from __future__ import annotations

import pytest

from tests.cluster.bed import Bed

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
BOTH = {"servers_count": 2, "drain": {"timeout": "5s"}}
"""Drained in less time than is looked on below: an instance that is drained too early is gone by then."""


def test_a_server_whose_nginx_refuses_is_waited_for_by_name_and_mends_itself_when_the_cause_is_gone(bed: Bed) -> None:
    """Nobody in particular is to blame for the refusal, so the whole text is held back, and with it the acknowledgement."""
    bed.begin({"web": bed.web("1", **BOTH), "api": bed.app("1", **BOTH)}, bed.inventory("a", "b", ack_timeout="5m"))
    b = bed.server("b")
    with bed.load("a", "b", mesh="api") as traffic:
        before = bed.running("web", "a", "b")
        b.shell("nginx", "sh", "-c", "rm /tmp/nginx.pid && mkdir /tmp/nginx.pid")  # where nginx -t expects a file
        second = bed.commit({"web": bed.web("2", **BOTH), "api": bed.app("2", **BOTH)}, "Bump both to 2")
        bed.eventually(lambda: "/tmp/nginx.pid" in bed.conditions("b"), 120, "b's report to say why, in nginx's own words")
        waits = "switching: waiting for b to acknowledge generation "
        bed.eventually(lambda: bed.rollout("web").startswith((waits, "done")), 60, "b to be waited for by name")
        passed = f"web is {bed.rollout('web')}: b, whose nginx refuses the new configuration, was not waited for\n{bed.story()}"
        assert bed.rollout("web").startswith(waits), passed
        bed.eventually(lambda: bed.server("a").version() == "2", 20, "a to serve version 2")
        sent = traffic.now.sent
        bed.eventually(lambda: traffic.now.sent > sent + 400, 60, "traffic to go on")
        serving = bed.report("b").serving
        acknowledged = f"b says that it serves the last generation, which its nginx refuses\n{bed.story()}"
        assert serving is not None and serving.generation < bed.cluster().generation, acknowledged
        now = bed.running("web", "a", "b")
        ended = [f"{c} on {name}" for name, there in before.items() for c in there if now[name].get(c) != there[c]]
        assert ended == [], "b's nginx, which refuses the new configuration, still lists what was ended or restarted"
        assert b.version() == "1", "b's edge, which refuses the new configuration, does not serve what it has loaded"
        b.shell("nginx", "rmdir", "/tmp/nginx.pid")
        print(f"\nmended: {bed.settle(second, 'a', 'b', seconds=120):.1f} s")
        bed.eventually(lambda: "/tmp/nginx.pid" not in bed.conditions("b"), 120, "b's report to be mended too")
        bed.nothing_lost(traffic.stop())
    assert b.version() == "2"
    assert "web_secondary" in " ".join(b.ids()) and "shop_prod_web" not in b.ids()
