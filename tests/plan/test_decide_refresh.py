"""decide: changed secrets reach what is live, also while the config's version is refused, suspended or cannot be placed."""

from __future__ import annotations

import pytest

from reconciler.model.desired import DesiredService, Rolling
from reconciler.plan import facts
from reconciler.plan.step import retriable, retry_wish
from tests.plan.build import Story, service, story

AB = ("a", "b")


def ask(told: Story, *servers: str) -> None:
    """The secrets of these servers changed."""
    for name in servers:
        told.reports[name] = told.reports[name].model_copy(update={"refresh": ("shop/prod/web",)})


def want(digest: str, *, recreate: bool = False, **changes: object) -> DesiredService:
    """A version on both servers."""
    return service(digest=digest, servers=AB, recreate=recreate).model_copy(update=changes)


def refused(*, recreate: bool = False) -> Story:
    """x1 is live on a and b; x2 was refused."""
    told = story(want("x1", recreate=recreate), servers=AB)
    told.commit(want("x2", recreate=recreate), revision=2).decide()
    told.obey("failed")
    told.settle()
    assert (told.phase(), told.state().rejected is not None) == ("aborted", True)
    return told


def test_a_refused_version_holds_back_no_refresh_of_the_live_one() -> None:
    told = refused()
    ask(told, "b")
    told.decide()
    rollout = told.state().rollout
    assert rollout is not None
    assert (rollout.strategy, rollout.target, rollout.scope, rollout.revision[:7]) == ("refresh", "x1", ("b",), "0000001")
    assert told.slots("staged") == ["b secondary x1"]
    assert "connection refused" in (told.state().held or ""), "it is still said what is not desired, and why"
    told.settle()
    assert told.slots("live") == ["a primary x1", "b secondary x1"]


def test_the_refused_version_stays_refused_and_what_is_live_stays_what_it_is() -> None:
    told = refused()
    live = told.state().live
    ask(told, "b")
    told.settle()
    state = told.state()
    assert (state.rejected.spec, state.live) == ("x2", live)  # type: ignore[union-attr]
    assert "connection refused" in (state.held or "")


def test_the_refused_version_can_still_be_asked_for_after_a_refresh() -> None:
    told = refused()
    ask(told, "b")
    told.settle()
    rollout = told.state().rollout
    assert rollout is not None and retriable(told.state())
    told.reports["a"] = told.report("a").model_copy(update={"retry": (retry_wish("shop/prod/web", rollout),)})
    told.decide()
    assert told.slots("staged") == ["a secondary x2", "b primary x2"]


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"suspend": True}, "suspended in the config"),
        ({"stalled": "servers_count is 3, but zone lon1 has 2 active"}, "servers_count is 3, but zone lon1 has 2 active"),
    ],
)
@pytest.mark.parametrize("digest", ["x1", "x2"], ids=["live", "newer"])
def test_neither_does_one_that_is_suspended_or_cannot_be_placed(digest: str, changes: dict[str, object], held: str) -> None:
    told = story(want("x1"), servers=AB).commit(want(digest).model_copy(update=changes), revision=2).settle()
    ask(told, "a")
    told.decide()
    assert told.slots("staged") == ["a secondary x1"]
    told.settle()
    assert told.slots("live") == ["a secondary x1", "b primary x1"]
    if digest == "x2":
        assert told.state().held == held


def test_a_refresh_of_data_stays_in_its_slot_and_is_no_way_back() -> None:
    told = refused(recreate=True)
    told.commit(want("x2", recreate=True, suspend=True), revision=3).settle()
    before = told.slots("live")
    ask(told, "a")
    told.settle()
    assert told.slots("live") == before
    assert told.phase() == "done"
    assert any("replacing on a: secrets changed on a" in why for why in told.reasons)


def test_a_newer_version_that_may_begin_goes_first() -> None:
    told = refused()
    ask(told, "b")
    told.decide()
    told.commit(want("x3"), revision=3).decide()
    assert (told.phase(), told.slots("staged")) == ("aborted", [])
    told.settle()
    assert told.slots("live") == ["a secondary x3", "b secondary x3"]


def test_a_refresh_that_fails_beside_a_refused_version_is_tried_again_after_a_while() -> None:
    told = refused()
    ask(told, "b")
    told.decide()
    told.obey("failed")
    ask(told, "b")
    told.decide()
    told.decide()
    state = told.state()
    assert (state.rejected.spec, state.retries, told.slots("staged")) == ("x2", 1, [])  # type: ignore[union-attr]
    assert (state.held or "").endswith("b: connection refused; trying again after 10 s")
    told.elapsed = {facts.aborted("shop/prod/web", state.rollout): 10.0}  # type: ignore[arg-type]
    told.decide()
    assert told.slots("staged") == ["b secondary x1"]


def test_what_a_stopped_line_left_on_a_server_is_refreshed_as_it_is() -> None:
    rolling = Rolling(soak=0.0, on_failure="abort_local")
    told = story(want("x1", strategy="rolling", rolling=rolling), servers=AB)
    told.commit(want("x2", strategy="rolling", rolling=rolling), revision=2).decide()
    for _ in range(3):
        told.obey()
        told.decide()
    assert told.slots("staged") == ["b secondary x2"]
    told.obey("failed")
    told.decide()
    told.settle()
    assert told.slots("live") == ["a secondary x2", "b primary x1"]
    live = told.state().live
    ask(told, "a")
    told.decide()
    assert told.slots("staged") == ["a primary x2"]
    told.settle()
    assert (told.slots("live"), told.state().live) == (["a primary x2", "b primary x1"], live)
