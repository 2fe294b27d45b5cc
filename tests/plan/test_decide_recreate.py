"""decide: recreate, one server at a time, and what becomes of failures."""

from __future__ import annotations

from reconciler.plan.step import retry_wish
from tests.plan.build import Story, desired, service, story

AB = ("a", "b")


def begun(*, rollback: bool = False, servers: tuple[str, ...] = AB) -> Story:
    """x2 is asked for over x1, and nothing has been stopped."""
    told = story(service(recreate=True, servers=servers), servers=servers)
    told.commit(service(digest="x2", recreate=True, rollback=rollback, servers=servers), revision=2).decide()
    return told


def replacing(*, rollback: bool = False, servers: tuple[str, ...] = AB) -> Story:
    """The first server is at its turn."""
    told = begun(rollback=rollback, servers=servers)
    told.obey()
    told.decide()
    assert told.phase() == "replacing"
    return told


def test_the_first_deploy_is_staged_like_any_other() -> None:
    told = story(service(recreate=True))
    assert (told.slots("live"), told.slots("staged"), told.phase()) == (["a primary x1"], [], "done")


def test_the_image_is_everywhere_before_anything_is_stopped() -> None:
    told = begun()
    told.obey(only=("a",))
    told.decide()
    assert (told.phase(), told.slots("live")) == ("staging", ["a primary x1", "b primary x1"])


def test_one_server_at_a_time_in_its_own_slot() -> None:
    told = replacing()
    assert told.slots("live") == ["a primary x2", "b primary x1"]
    told.decide()
    assert told.slots("live") == ["a primary x2", "b primary x1"]
    told.obey()
    told.decide()
    assert told.slots("live") == ["a primary x2", "b primary x2"]
    assert told.phase() == "replacing"
    told.settle()
    live = told.state().live
    assert told.phase() == "done" and live is not None and live.spec == "x2"


def test_a_failure_stops_the_line_and_says_what_to_do() -> None:
    told = replacing()
    told.obey("failed")
    told.settle("failed")
    rollout = told.state().rollout
    assert rollout is not None and (rollout.reason or "").startswith("Stalled: a: connection refused")
    assert told.slots("live") == ["a primary x2", "b primary x1"]


def test_a_revert_after_a_failure_brings_back_what_was_replaced() -> None:
    told = replacing()
    told.obey("failed")
    told.settle("failed")
    told.commit(service(recreate=True, servers=AB), revision=3).settle()
    assert told.slots("live") == ["a primary x1", "b primary x1"]
    assert told.phase() == "done"


def test_a_fix_overtakes_a_failure() -> None:
    told = replacing()
    told.obey("failed")
    told.settle("failed")
    told.commit(service(digest="x3", recreate=True, servers=AB), revision=3).settle()
    assert told.slots("live") == ["a primary x3", "b primary x3"]


def test_a_fix_overtakes_a_server_that_does_not_answer() -> None:
    told = replacing()
    told.commit(service(digest="x3", recreate=True, servers=AB), revision=3).decide()
    assert told.phase() == "aborted"


def test_a_retry_after_a_failure_is_another_attempt() -> None:
    told = replacing(servers=("a",))
    told.obey("failed")
    told.settle("failed")
    rollout = told.state().rollout
    assert rollout is not None
    told.reports["a"] = told.report("a", "failed").model_copy(update={"retry": (retry_wish("shop/prod/web", rollout),)})
    told.decide()
    assert told.phase() == "aborted"


def test_rollback_image_goes_back_by_itself_when_it_was_never_healthy() -> None:
    told = replacing(rollback=True)
    told.reports["a"] = told.report("a", "failed", after=None)
    told.settle()
    assert told.slots("live") == ["a primary x1", "b primary x1"]
    assert told.state().rejected is not None


def going_back() -> Story:
    """The new version was never healthy, and the old one has been put back but has not passed its gate yet."""
    told = replacing(rollback=True, servers=("a",))
    told.reports["a"] = told.report("a", "failed", after=None)
    told.decide()
    assert told.slots("live") == ["a primary x1"]
    return told


def test_going_back_lasts_until_the_old_version_is_healthy() -> None:
    told = going_back()
    told.decide()
    rollout, live = told.state().rollout, told.state().live
    assert rollout is not None and live is not None
    assert (told.phase(), rollout.target, rollout.id.partition("/")[2]) == ("replacing", "x1", "2")
    told.settle()
    rejected = told.state().rejected
    assert told.phase() == "aborted" and rejected is not None and rejected.spec == "x2"
    assert any(reason.endswith("the old image is back on a, healthy after 1.0 s") for reason in told.reasons)
    assert "reconcile retry" in (told.state().held or "")


def test_an_old_version_that_is_not_healthy_either_stalls_by_name_and_a_fix_overtakes_it() -> None:
    told = going_back()
    told.obey("failed")
    told.settle("failed")
    rollout = told.state().rollout
    assert rollout is not None and (rollout.reason or "").startswith("Stalled: the old image does not become healthy either: a:")
    told.commit(service(digest="x3", recreate=True, rollback=True), revision=3).settle()
    assert (told.slots("live"), told.phase()) == (["a primary x3"], "done")


def test_a_revert_while_it_goes_back_lets_it_finish() -> None:
    told = going_back()
    told.commit(service(recreate=True, rollback=True), revision=3).settle()
    assert (told.slots("live"), told.state().held, told.state().rejected) == (["a primary x1"], None, None)


def test_after_it_went_back_a_retry_tries_the_new_version_again() -> None:
    told = going_back().settle()
    rollout = told.state().rollout
    assert rollout is not None
    told.reports["a"] = told.report("a").model_copy(update={"retry": (retry_wish("shop/prod/web", rollout),)})
    told.settle()
    assert (told.slots("live"), told.phase()) == (["a primary x2"], "done")


def test_rollback_image_does_not_go_back_once_it_was_healthy() -> None:
    told = replacing(rollback=True)
    told.reports["a"] = told.report("a", "failed", after=2.0)
    told.decide()
    assert told.slots("live") == ["a primary x2", "b primary x1"]
    rollout = told.state().rollout
    assert rollout is not None and "Stalled" in (rollout.reason or "")


def test_a_rollback_on_the_second_server_leaves_the_first_until_the_revert() -> None:
    told = replacing(rollback=True)
    told.obey()
    told.decide()
    told.obey()
    told.reports["b"] = told.report("b", "failed", after=None)
    told.settle()
    assert told.slots("live") == ["a primary x2", "b primary x1"]
    told.commit(service(recreate=True, servers=AB), revision=3).settle()
    assert told.slots("live") == ["a primary x1", "b primary x1"]


def test_a_service_that_moves_starts_at_its_new_place_before_the_old_one_ends() -> None:
    told = story(service(recreate=True, servers=("a",)), servers=AB)
    told.commit(service(recreate=True, servers=("b",)), revision=2).decide()
    assert (told.slots("live"), told.slots("staged")) == (["a primary x1"], ["b primary x1"])
    told.settle()
    assert told.slots("live") == ["b primary x1"]


def test_a_server_that_leaves_the_inventory_at_its_turn_is_not_waited_for() -> None:
    """Found by the simulation (seed 5791): nobody carries it out there, and the rollout waited for ever, without a word."""
    told = story(service(recreate=True, servers=("b",)).model_copy(update={"pinned": False}), servers=AB)
    newer = service(digest="x2", recreate=True, servers=("b",)).model_copy(update={"pinned": False})
    told.commit(newer, revision=2).decide()
    told.obey()
    told.decide()
    assert told.phase() == "replacing"
    told.want = desired(newer.model_copy(update={"servers": ("a",)}), revision=3, servers=("a",))
    told.decide()
    assert told.phase() == "aborted"
    told.settle()
    assert "b, which is out of the inventory" in (told.state().held or "")


def test_data_on_a_server_out_of_the_inventory_stalls_by_name() -> None:
    """Nobody there answers: without a word the rollout would run into its deadline again and again."""
    told = story(service(recreate=True, servers=("b",)).model_copy(update={"pinned": False}), servers=AB)
    newer = service(digest="x2", recreate=True, servers=("a",)).model_copy(update={"pinned": False})
    told.want = desired(newer, revision=2, servers=("a",))
    told.settle()
    assert told.slots("live") == ["b primary x1"]
    assert "b, which is out of the inventory" in (told.state().held or "")
