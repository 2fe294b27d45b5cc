"""decide: what a dead or silent member holds up, and what not (DESIGN section 6, step 4; FAULTS 39)."""

from __future__ import annotations

from reconciler.model.desired import ServerEntry
from reconciler.plan import facts
from tests.plan.build import Story, service, story

TWO = ("a", "b")


def switched_while_b_is_silent() -> Story:
    """x2 has the traffic; a has acknowledged, b has said nothing since it was ready."""
    told = story(service(servers=TWO), servers=TWO).commit(service(digest="x2", servers=TWO), revision=2)
    told.decide()
    told.obey()
    told.decide()
    told.obey(only=("a",))
    told.decide()
    assert told.phase() == "switching"
    return told


def pass_the_ack_timeout(told: Story) -> None:
    rollout = told.state().rollout
    assert rollout is not None
    told.elapsed[facts.staging("shop/prod/web", rollout)] = told.want.ack_timeout


def test_nothing_drains_while_a_member_is_silent() -> None:
    told = switched_while_b_is_silent()
    assert told.reasons[-1] == "shop/prod/web waiting for b to acknowledge generation 4"
    assert len(told.slots("draining")) == 2


def test_after_the_ack_timeout_a_toggle_in_place_drains_as_the_silent_member_reaches_the_other_slot() -> None:
    told = switched_while_b_is_silent()
    pass_the_ack_timeout(told)
    told.decide()
    assert (told.phase(), told.slots("draining")) == ("done", [])
    assert "b silent for 90 s" in told.reasons[-1]


def test_the_next_toggle_waits_for_the_silent_member_by_name() -> None:
    told = switched_while_b_is_silent()
    pass_the_ack_timeout(told)
    told.decide()
    told.obey(only=("a",))
    told.commit(service(digest="x3", servers=TWO), revision=3).decide()
    assert not told.slots("staged")
    assert told.state().held == "old nginx workers of b may still reach the other slot"


def test_an_acknowledgement_known_for_long_says_that_the_old_workers_are_gone() -> None:
    told = switched_while_b_is_silent()
    told.obey()
    told.reports["b"] = told.reports["b"].model_copy(update={"retired": 1})
    told.decide()
    told.commit(service(digest="x3", servers=TWO), revision=3).decide()
    assert told.state().held == "old nginx workers of b may still reach the other slot"
    serving = told.reports["b"].serving
    assert serving is not None
    told.elapsed[facts.acknowledged("b", serving)] = facts.RETIRED_SECONDS
    told.decide()
    assert len(told.slots("staged")) == 2


def test_a_removal_waits_for_a_silent_member_however_long_it_takes() -> None:
    told = story(service(servers=TWO), service("api"), service("db"), service("mq"), servers=TWO)
    told.commit(service("api"), service("db"), service("mq"), revision=2).decide()
    told.obey(only=("a",))
    pass_the_ack_timeout(told)
    told.decide()
    assert told.phase() == "switching"
    assert "waiting for b to acknowledge" in told.reasons[-1]


def test_a_drained_server_is_waited_for_only_until_the_ack_timeout() -> None:
    told = story(service(servers=TWO), service("api"), service("db"), service("mq"), servers=TWO)
    told.commit(service("api"), service("db"), service("mq"), revision=2).decide()
    told.obey(only=("a",))
    servers = {**told.want.servers, "b": ServerEntry(name="b", state="drained")}
    told.want = told.want.model_copy(update={"servers": servers})
    pass_the_ack_timeout(told)
    told.decide()
    assert told.phase() == "draining"


def test_a_move_waits_for_a_silent_member_as_its_configuration_knows_only_the_old_place() -> None:
    told = story(service(servers=("a",)), servers=TWO).commit(service(servers=("b",)), revision=2)
    told.decide()
    told.obey()
    told.decide()
    assert told.slots("live") == ["b primary x1"]
    told.obey(only=("b",))
    pass_the_ack_timeout(told)
    told.decide()
    assert told.phase() == "switching"
