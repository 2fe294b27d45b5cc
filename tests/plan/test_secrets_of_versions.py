"""plan and report: the secrets of what runs are those that its own version names, whatever the config names now."""

from __future__ import annotations

import pytest

from reconciler.model.observed import Elapsed
from reconciler.plan.reporting import report
from tests.plan.build import service, story
from tests.plan.server import Server

LIVE, NEWER = "shop/prod/web@x1", "shop/prod/web"


def held() -> Server:
    """x1 runs with what `old` holds; x2, which is suspended, names another secret."""
    there = Server(story(service(secrets=("old",))))
    there.overrides["locals"] = {"shop/prod/web": "one"}
    there.calm()
    there.story.commit(service(digest="x2", secrets=("new",), suspend=True), revision=2).settle()
    return there


def asks(there: Server) -> tuple[str, ...]:
    """The services that the server wants to be refreshed."""
    observed = there.observe()
    return report(
        there.story.want, there.story.cluster, observed, there.site, there.intended(observed), None,
        identity="a", program="1", elapsed=Elapsed(),
    ).refresh  # fmt: skip


@pytest.mark.parametrize(("now", "asked"), [("one", ()), ("two", ("shop/prod/web",))], ids=["same", "changed"])
def test_a_version_that_names_other_secrets_makes_the_live_one_no_different(now: str, asked: tuple[str, ...]) -> None:
    there = held()
    there.overrides["locals"] = {LIVE: now, NEWER: "of the newer one"}
    assert asks(there) == asked


def test_a_secret_that_only_the_newer_version_needs_does_not_keep_the_live_one_from_being_healed() -> None:
    there = held()
    there.overrides |= {"locals": {LIVE: "one", NEWER: "x"}, "missing_secrets": {LIVE: (), NEWER: ("new",)}}
    there.remove("shop_prod_web")
    assert "start_instance" in there.kinds()


def test_a_secret_that_the_live_version_needs_does() -> None:
    there = held()
    there.overrides |= {"locals": {LIVE: "one"}, "missing_secrets": {LIVE: ("old",), NEWER: ()}}
    there.remove("shop_prod_web")
    assert "start_instance" not in there.kinds()
