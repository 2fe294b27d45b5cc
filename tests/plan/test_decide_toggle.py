"""decide: staging, votes, switch, acknowledgement and drain of a toggle."""

from __future__ import annotations

import pytest

from reconciler.model.report import Report, Serving
from reconciler.plan import facts
from reconciler.plan.step import ATTEMPTS, retry_wish
from tests.plan.build import Story, desired, service, story


def staged(servers: tuple[str, ...] = ("a",)) -> Story:
    """x2 is being staged over x1."""
    told = story(service(servers=servers), servers=servers).commit(service(digest="x2", servers=servers), revision=2)
    told.decide()
    assert told.phase() == "staging"
    return told


def switched(servers: tuple[str, ...] = ("a",)) -> Story:
    """x2 has the traffic and nobody has acknowledged it yet."""
    told = staged(servers)
    told.obey()
    told.decide()
    assert told.phase() == "switching"
    return told


def test_the_first_deploy_goes_to_the_primary_slot() -> None:
    told = story(service())
    assert told.slots("live") == ["a primary x1"]
    assert told.phase() == "done"


def test_updates_toggle_between_the_slots() -> None:
    told = story(service())
    for number, slot in ((2, "secondary"), (3, "primary")):
        told.commit(service(digest=f"x{number}"), revision=number).settle()
        assert told.slots("live") == [f"a {slot} x{number}"]
        assert len(told.state().backends) == 1


def test_what_is_converged_stays_as_it_is() -> None:
    told = story(service())
    assert told.decide().reasons == ()


def test_a_change_of_the_config_that_changes_no_service_only_moves_the_revision() -> None:
    told = story(service())
    backends = told.state()
    reasons = told.commit(service(), revision=2).decide().reasons
    assert reasons == ('config 0000001 -> 0000002 "commit 2"',)
    assert told.state() == backends


def test_the_cause_names_what_changed() -> None:
    assert any('image web:x1 -> web:x2 (0000002 "commit 2")' in reason for reason in staged().reasons)


def test_a_failed_gate_aborts_and_the_live_one_never_notices() -> None:
    told = staged()
    told.obey("failed")
    told.decide()
    assert (told.phase(), told.slots("live"), told.slots("staged")) == ("aborted", ["a primary x1"], [])
    assert told.state().rejected is not None


def test_a_rejected_digest_is_not_tried_again_until_it_changes() -> None:
    told = staged()
    told.obey("failed")
    told.settle()
    assert told.phase() == "aborted"
    assert "connection refused" in (told.state().held or "")
    told.commit(service(digest="x2"), service("api", "y1"), revision=3).settle()
    assert told.slots("live") == ["a primary x1"]
    told.commit(service(digest="x3"), revision=4).settle()
    assert told.slots("live") == ["a secondary x3"]


def test_a_retry_is_good_for_one_attempt() -> None:
    told = staged()
    told.obey("failed")
    told.settle()
    rollout = told.state().rollout
    assert rollout is not None
    wish = retry_wish("shop/prod/web", rollout)
    told.reports["a"] = told.report("a").model_copy(update={"retry": (wish,)})
    told.decide()
    again = told.state().rollout
    assert again is not None and (again.id, again.phase) == ("0000002/2", "staging")
    told.reports["a"] = told.report("a", "failed").model_copy(update={"retry": (wish,)})
    told.decide()
    told.decide()
    assert told.phase() == "aborted"
    assert told.state().held is not None


def test_a_transient_failure_is_tried_again_with_a_new_identity_after_the_back_off() -> None:
    told = staged()
    told.reports["a"] = told.report("a", "failed", transient=True)
    told.decide()
    first = told.state().rollout
    assert first is not None and told.state().rejected is None
    told.decide()
    assert "trying again after 10 s" in (told.state().held or "")
    told.elapsed = {facts.aborted("shop/prod/web", first): 10.0}
    told.decide()
    second = told.state().rollout
    assert second is not None and (second.id, second.phase) == ("0000002/2", "staging")
    told.reports["a"] = told.report("a", "failed", transient=True)
    told.decide()
    told.decide()
    assert "trying again after 20 s" in (told.state().held or "")


def test_what_ends_every_time_as_if_the_machine_had_been_stopped_is_rejected_in_the_end() -> None:
    told = staged()
    for attempt in range(1, ATTEMPTS + 1):
        rollout = told.state().rollout
        assert rollout is not None and (rollout.attempt, rollout.phase) == (attempt, "staging")
        told.reports["a"] = told.report("a", "failed", transient=True)
        told.decide()
        told.elapsed = {facts.aborted("shop/prod/web", rollout): 300.0}
        told.decide()
    assert told.phase() == "aborted" and told.state().rejected is not None


def test_not_being_ready_in_time_is_transient() -> None:
    told = staged()
    rollout = told.state().rollout
    assert rollout is not None
    told.obey("starting")
    told.elapsed = {facts.staging("shop/prod/web", rollout): 601.0}
    told.decide()
    assert (told.phase(), told.state().retries) == ("aborted", 1)
    assert told.state().rejected is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("rollout", "0000002/9"), ("spec", "x1"), ("slot", "primary"), ("replica", 2), ("service", "shop/prod/api")],
)
@pytest.mark.parametrize("phase", ["ready", "failed"])
def test_a_vote_for_anything_else_never_counts(field: str, value: object, phase: str) -> None:
    told = staged()
    right = told.report("a", phase)
    wrong = tuple(e.model_copy(update={field: value}) if e.phase == phase else e for e in right.instances)
    told.reports["a"] = right.model_copy(update={"instances": wrong})
    told.decide()
    assert told.phase() == "staging"


def test_a_vote_of_another_epoch_never_counts() -> None:
    told = staged()
    right = told.report("a")
    assert right.seen is not None
    told.reports["a"] = right.model_copy(update={"seen": right.seen.model_copy(update={"epoch": "before"})})
    told.decide()
    assert told.phase() == "staging"


def test_everybody_has_to_be_ready() -> None:
    told = staged(("a", "b"))
    told.obey(only=("a",))
    told.decide()
    assert told.phase() == "staging"
    told.obey()
    told.decide()
    assert told.slots("live") == ["a secondary x2", "b secondary x2"]
    assert told.slots("draining") == ["a primary x1", "b primary x1"]


@pytest.mark.parametrize(
    "serving", [None, Serving(epoch="e1", generation=1), Serving(epoch="other", generation=99)], ids=["lost", "older", "epoch"]
)
def test_nothing_drains_before_every_member_has_acknowledged(serving: Serving | None) -> None:
    told = switched(("a", "b"))
    told.obey()
    told.reports["b"] = told.reports["b"].model_copy(update={"serving": serving})
    told.decide()
    assert told.phase() == "switching"
    rollout = told.state().rollout
    assert rollout is not None and "waiting for b to acknowledge" in (rollout.reason or "")


def test_a_lost_report_blocks() -> None:
    told = switched(("a", "b"))
    told.obey()
    del told.reports["b"]
    told.decide()
    assert told.phase() == "switching"


def test_a_sole_member_is_done_when_its_old_instance_is_gone() -> None:
    told = switched()
    told.obey()
    told.decide()
    assert (told.phase(), told.slots("draining")) == ("draining", ["a primary x1"])
    told.decide()
    assert told.phase() == "draining"
    told.obey()
    told.decide()
    assert (told.phase(), told.slots("draining")) == ("done", [])


def test_among_several_the_rollout_ends_when_all_serve_it_and_nobody_is_waited_for_to_say_that_the_old_one_is_gone() -> None:
    """No server tells that its old instance is gone, and no decision notes it: that would be a push for each."""
    told = switched(("a", "b"))
    told.obey()
    told.decide()
    assert (told.phase(), told.slots("draining")) == ("done", [])
    assert told.reasons[-1].startswith("shop/prod/web done: ")


def test_a_decision_of_an_earlier_program_that_drains_among_several_is_ended() -> None:
    told = switched(("a", "b"))
    told.obey()
    state = told.state()
    assert told.cluster is not None and state.rollout is not None
    before = state.model_copy(update={"rollout": state.rollout.model_copy(update={"phase": "draining"})})
    told.cluster = told.cluster.model_copy(update={"services": {"shop/prod/web": before}})
    told.decide()
    assert (told.phase(), told.slots("draining")) == ("done", [])


def test_a_slot_that_old_workers_may_reach_is_not_staged_into() -> None:
    told = switched().settle().commit(service(digest="x3"), revision=3)
    generation = told.state().rollout.switched_at  # type: ignore[union-attr]
    told.reports["a"] = told.reports["a"].model_copy(update={"retired": (generation or 0) - 1})
    told.decide()
    assert told.phase() == "done"
    assert "old nginx workers of a" in (told.state().held or "")
    told.obey()
    told.decide()
    assert told.phase() == "staging"


def test_a_newer_commit_pre_empts_staging() -> None:
    told = staged().commit(service(digest="x3"), revision=3)
    told.decide()
    assert (told.phase(), told.slots("live"), told.slots("staged")) == ("aborted", ["a primary x1"], [])
    told.settle()
    assert told.slots("live") == ["a secondary x3"]


def test_a_newer_commit_waits_for_what_has_switched() -> None:
    told = switched().commit(service(digest="x3"), revision=3)
    told.decide()
    assert (told.phase(), told.slots("live")) == ("switching", ["a secondary x2"])
    told.obey()
    told.settle()
    assert told.slots("live") == ["a primary x3"]


def test_a_revert_while_staging_leaves_what_is_live() -> None:
    told = staged().commit(service(), revision=3)
    told.settle()
    assert (told.phase(), told.slots("live")) == ("aborted", ["a primary x1"])
    assert told.state().held is None


def test_suspend_before_the_switch_aborts_and_does_not_stick() -> None:
    told = staged().commit(service(digest="x2", suspend=True), revision=3).settle()
    assert (told.phase(), told.slots("live"), told.state().held) == ("aborted", ["a primary x1"], "suspended in the config")
    told.commit(service(digest="x2"), revision=4).settle()
    assert told.slots("live") == ["a secondary x2"]


def test_suspend_after_the_switch_lets_it_finish() -> None:
    told = switched().commit(service(digest="x2", suspend=True), revision=3)
    told.obey()
    told.settle()
    assert (told.phase(), told.slots("live")) == ("done", ["a secondary x2"])


def test_one_failing_service_never_holds_up_another() -> None:
    told = story(service(), service("api", "y1"))
    told.commit(service(digest="x2"), service("api", "y2"), revision=2).decide()
    report = told.report("a")
    bad = tuple(
        e.model_copy(update={"phase": "failed"}) if e.service.endswith("web") and e.phase == "ready" else e
        for e in report.instances
    )
    told.reports["a"] = report.model_copy(update={"instances": bad})
    told.decide()
    assert (told.phase(), told.phase("api")) == ("aborted", "switching")


def test_a_service_that_cannot_be_placed_says_so_from_the_start() -> None:
    told = Story(desired(service(stalled="no server in zone lon1")))
    told.decide()
    reasons = told.decide().reasons
    assert reasons == ("shop/prod/web held: no server in zone lon1",)
    assert told.decide().reasons == ()


def test_another_internal_port_is_a_new_generation_with_a_reason() -> None:
    told = story(service(internal_port=5001))
    before = told.cluster
    reasons = told.commit(service(internal_port=5002), revision=2).decide().reasons
    assert before is not None and told.cluster is not None
    assert told.cluster.generation > before.generation
    assert "shop/prod/web internal port 5001 -> 5002" in reasons


def test_generations_only_grow() -> None:
    told = story(service())
    seen: list[int] = []
    for number in range(2, 6):
        told.commit(service(digest=f"x{number}"), revision=number)
        for _ in range(8):
            told.decide()
            told.obey()
            assert told.cluster is not None
            seen.append(told.cluster.generation)
    assert seen == sorted(seen)


def test_the_image_is_pinned_to_what_the_first_server_resolved() -> None:
    told = switched(("a", "b"))
    live = told.state().live
    assert live is not None and live.image == "shop/prod/web@x2"


def test_an_unknown_report_is_no_member() -> None:
    told = story(service())
    told.reports["z"] = Report(server="z", instance="z", program="1")
    told.decide()
    assert told.cluster is not None and told.cluster.members == ("a",)
