"""report: what a server acknowledges, and what it keeps to itself until it is true."""

from __future__ import annotations

import pytest

from tests.plan.build import service, story
from tests.plan.server import Server


def switched() -> Server:
    """A server that has loaded the last generation and has not said so yet."""
    told = story(service(sidecar=True), service("api", sidecar=True))
    server = Server(told).calm()
    assert told.cluster is not None
    before = server.report()
    assert before.serving is not None and before.serving.generation == told.cluster.generation
    told.cluster = told.cluster.model_copy(update={"generation": told.cluster.generation + 1})
    server.calm()
    return server


def acknowledged(server: Server) -> int:
    """The generation that it acknowledges."""
    assert server.story.cluster is not None
    earlier = server.report().model_copy(update={"serving": None})
    serving = server.report(earlier).serving
    return serving.generation if serving is not None else 0


def test_what_is_verified_is_acknowledged() -> None:
    server = switched()
    assert server.story.cluster is not None
    assert acknowledged(server) == server.story.cluster.generation > 0


@pytest.mark.parametrize("name", ["shop_prod_web", "shop_prod_web_sidecar"])
def test_nothing_is_acknowledged_while_something_live_comes_up_with_older_routes(name: str) -> None:
    """Its sidecar is not there yet, and will have the routes of when its start began."""
    server = switched()
    server.overrides["starting"] = frozenset({name})
    assert acknowledged(server) == 0


def test_a_paused_sidecar_of_something_live_goes_on_with_older_routes() -> None:
    server = switched()
    server.stop("shop_prod_web_sidecar", "paused")
    assert acknowledged(server) == 0


def test_what_is_only_staged_holds_up_no_acknowledgement() -> None:
    server = switched()
    server.overrides["starting"] = frozenset({"shop_prod_web_secondary", "shop_prod_other"})
    assert server.story.cluster is not None
    assert acknowledged(server) == server.story.cluster.generation


def test_a_server_goes_on_saying_where_it_is_when_the_inventory_does_not_any_more() -> None:
    server = switched()
    here = server.report()
    assert here.address == server.site.address
    server.site = server.site.model_copy(update={"address": None})
    assert server.report(here.model_copy(update={"address": "10.0.0.7"})).address == "10.0.0.7"
