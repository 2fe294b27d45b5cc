"""decide: a rolling rollout, from server to server, and every way in which it does not come to its end."""

from __future__ import annotations

import pytest

from reconciler.model.desired import Rolling
from reconciler.model.report import InstanceReport
from reconciler.plan import facts
from reconciler.plan.step import retry_wish
from tests.plan.build import Story, service, story

ABC = ("a", "b", "c")
SLOWLY = Rolling(soak=30.0)
LOCAL = Rolling(soak=30.0, on_failure="abort_local")


def begun(rolling: Rolling = SLOWLY, *, servers: tuple[str, ...] = ABC, replicas: int = 1) -> Story:
    """x2 is being rolled out over x1; the first batch is staged."""
    told = story(service(servers=servers, rolling=rolling, replicas=replicas), servers=servers)
    told.commit(service(digest="x2", servers=servers, rolling=rolling, replicas=replicas), revision=2).decide()
    return told


def soaking(server: str = "a", rolling: Rolling = SLOWLY, *, replicas: int = 1) -> Story:
    """The line has come to `server`, which soaks."""
    told = begun(rolling, replicas=replicas)
    for _ in range(20):
        if told.phase() == "soaking" and told.state().rollout.batch == (server,):  # type: ignore[union-attr]
            told.obey()
            return told
        forward(told)
    raise AssertionError(f"the line does not come to {server}: {told.reasons}")


def forward(told: Story) -> None:
    """Everybody does as decided, time passes, and the next decision is made."""
    told.obey()
    rollout = told.state().rollout
    assert rollout is not None
    if rollout.phase == "soaking":
        told.elapsed = {facts.staging("shop/prod/web", rollout): 30.0}
    told.decide()


def finish(told: Story) -> Story:
    """Until nothing changes any more."""
    for _ in range(40):
        before = told.cluster
        forward(told)
        if told.cluster == before:
            return told
    raise AssertionError(f"it does not settle: {told.reasons[-5:]}")


def tell(told: Story, server: str, slot: str, **changes: object) -> None:
    """`server` says something else of its instance in `slot`."""
    right = told.report(server)

    def said(entry: InstanceReport) -> InstanceReport:
        return entry.model_copy(update=changes) if entry.slot == slot else entry

    told.reports[server] = right.model_copy(update={"instances": tuple(said(entry) for entry in right.instances)})


def crash(told: Story, server: str, slot: str = "secondary", *, transient: bool = False) -> None:
    """A switched instance is reported to have ended."""
    tell(told, server, slot, phase="failed", reason="switched, then exited with code 1", transient=transient)


def reason(told: Story) -> str:
    """What the rollout says of itself."""
    rollout = told.state().rollout
    return (rollout.reason if rollout is not None else None) or ""


# The line


def test_only_the_first_server_is_staged_and_switched() -> None:
    told = begun()
    assert told.slots("staged") == ["a secondary x2"]
    forward(told)
    assert told.slots("live") == ["a secondary x2", "b primary x1", "c primary x1"]
    assert told.slots("kept") == ["a primary x1"]
    assert told.slots("draining") == []


def test_what_is_live_stays_the_old_version_until_the_end_of_the_line() -> None:
    told = soaking("c")
    assert told.state().live.spec == "x1"  # type: ignore[union-attr]
    forward(told)
    assert told.state().live.spec == "x2"  # type: ignore[union-attr]


def test_every_server_has_the_new_version_at_the_end_and_the_old_ones_go() -> None:
    told = finish(begun())
    assert told.slots("live") == ["a secondary x2", "b secondary x2", "c secondary x2"]
    assert (told.slots("kept"), told.slots("draining"), told.phase()) == ([], [], "done")
    turns = [why for why in told.reasons if " switched on " in why]
    assert [why.split("(")[1].split(")")[0] for why in turns] == ["1 of 3 servers", "2 of 3 servers", "3 of 3 servers"]


def test_the_old_instances_are_kept_until_the_whole_line_has_passed() -> None:
    told = soaking("c")
    assert told.slots("kept") == ["a primary x1", "b primary x1", "c primary x1"]
    told.elapsed = {facts.staging("shop/prod/web", told.state().rollout): 30.0}  # type: ignore[arg-type]
    told.decide()
    assert told.slots("draining") == ["a primary x1", "b primary x1", "c primary x1"]
    assert told.phase() == "switching"


def test_max_parallel_servers_go_together() -> None:
    told = begun(Rolling(max_parallel=2))
    assert told.slots("staged") == ["a secondary x2", "b secondary x2"]
    told.obey(only=("a",))
    told.decide()
    assert told.phase() == "staging"


def test_replicas_of_a_server_go_together() -> None:
    told = begun(replicas=2)
    assert len(told.slots("staged")) == 2
    forward(told)
    assert told.slots("kept") == ["a primary x1", "a primary x1"]
    assert finish(told).slots("live") == [f"{server} secondary x2" for server in "aabbcc"]


def test_a_first_deploy_has_nobody_to_spare_and_goes_everywhere_at_once() -> None:
    told = story(service(servers=ABC, rolling=SLOWLY), servers=ABC)
    assert told.slots("live") == ["a primary x1", "b primary x1", "c primary x1"]
    assert told.state().rollout.strategy == "toggle"  # type: ignore[union-attr]


def test_one_server_alone_soaks_before_its_old_instance_goes() -> None:
    told = begun(servers=("a",))
    forward(told)
    forward(told)
    assert (told.phase(), told.slots("kept")) == ("soaking", ["a primary x1"])
    assert finish(told).slots("live") == ["a secondary x2"]


def test_a_silent_member_holds_up_each_batch_until_ack_timeout() -> None:
    told = begun()
    told.obey()
    told.decide()
    told.obey(only=("a", "b"))
    told.decide()
    assert (told.phase(), reason(told)) == ("switching", f"waiting for c to acknowledge generation {told.cluster.generation}")  # type: ignore[union-attr]
    told.elapsed = {facts.staging("shop/prod/web", told.state().rollout): 90.0}  # type: ignore[arg-type]
    told.decide()
    assert told.phase() == "soaking"


def test_the_soak_says_where_and_how_long_and_says_it_once() -> None:
    told = soaking("b")
    assert reason(told) == "soaking for 30 s on b (2 of 3 servers)"
    told.elapsed = {facts.staging("shop/prod/web", told.state().rollout): 12.0}  # type: ignore[arg-type]
    assert told.decide().reasons == ()


def test_times_of_one_batch_are_not_those_of_the_next() -> None:
    told = soaking("a")
    first = facts.staging("shop/prod/web", told.state().rollout)  # type: ignore[arg-type]
    for _ in range(3):
        forward(told)
    assert told.phase() == "soaking"
    assert facts.staging("shop/prod/web", told.state().rollout) != first  # type: ignore[arg-type]


# max_unavailable


def down(told: Story, server: str, slot: str = "primary") -> None:
    tell(told, server, slot, phase="starting", reason="exited with code 1")


def test_the_line_waits_while_another_server_is_down() -> None:
    told = begun()
    told.obey()
    down(told, "c")
    told.decide()
    assert (told.phase(), reason(told)) == ("staging", "not switched before these are healthy: c: exited with code 1")
    told.obey()
    told.decide()
    assert told.phase() == "switching"


def test_as_many_as_max_unavailable_may_be_down() -> None:
    told = begun(Rolling(max_unavailable=1))
    told.obey()
    down(told, "c")
    told.decide()
    assert told.phase() == "switching"


def test_a_server_whose_old_instance_is_down_is_first_and_nobody_waits_for_it() -> None:
    told = story(service(servers=ABC, rolling=SLOWLY), servers=ABC)
    for server in "bc":
        down(told, server)
    told.commit(service(digest="x2", servers=ABC, rolling=SLOWLY), revision=2).decide()
    assert told.slots("staged") == ["b secondary x2"]
    down(told, "b")  # the new instance beside it is ready
    told.decide()
    assert told.phase() == "switching"


def test_the_soak_does_not_end_while_a_switched_server_is_down() -> None:
    told = soaking("b")
    tell(told, "a", "secondary", phase="starting", reason="exited with code 255")
    told.elapsed = {facts.staging("shop/prod/web", told.state().rollout): 60.0}  # type: ignore[arg-type]
    told.decide()
    assert (told.phase(), reason(told)) == ("soaking", "goes on when these are healthy: a: exited with code 255")
    told.obey()
    told.decide()
    assert told.slots("staged") == ["c secondary x2"]


def test_the_next_server_is_not_switched_before_a_silent_one_has_spoken() -> None:
    told = soaking("a")
    told.elapsed = {facts.staging("shop/prod/web", told.state().rollout): 30.0}  # type: ignore[arg-type]
    stale = told.reports["c"]
    told.decide()
    told.obey()
    told.reports["c"] = stale.model_copy(update={"seen": stale.seen.model_copy(update={"generation": 1})})  # type: ignore[union-attr]
    told.decide()
    assert (told.phase(), reason(told)) == ("staging", "not switched before these are healthy: c: it says nothing")


# Failures


def test_abort_all_takes_back_what_was_switched_without_starting_anything() -> None:
    told = soaking("b")
    crash(told, "b")
    told.decide()
    assert told.slots("live") == ["a primary x1", "b primary x1", "c primary x1"]
    assert (told.slots("draining"), told.slots("staged")) == (["a secondary x2", "b secondary x2"], [])
    assert told.phase() == "switching"


def test_a_version_that_was_taken_back_is_not_tried_again_until_somebody_asks() -> None:
    told = soaking("b")
    crash(told, "b")
    told.decide()
    told.settle()
    assert (told.phase(), told.slots("live")) == ("aborted", ["a primary x1", "b primary x1", "c primary x1"])
    assert told.state().rejected.reason == "b: switched, then exited with code 1"  # type: ignore[union-attr]
    assert (told.state().held or "").startswith("b: switched, then exited with code 1; commit a change")
    wish = retry_wish("shop/prod/web", told.state().rollout)  # type: ignore[arg-type]
    told.reports["a"] = told.report("a").model_copy(update={"retry": (wish,)})
    told.decide()
    assert told.slots("staged") == ["a secondary x2"]


def test_taking_back_is_acknowledged_before_anything_ends() -> None:
    told = soaking("b")
    crash(told, "b")
    told.decide()
    told.obey(only=("a", "b"))
    told.decide()
    assert (told.phase(), reason(told)) == ("switching", f"waiting for c to acknowledge generation {told.cluster.generation}")  # type: ignore[union-attr]


def test_abort_local_leaves_the_failing_server_on_the_old_version_and_the_others_on_the_new() -> None:
    told = soaking("b", LOCAL)
    crash(told, "b")
    told.decide()
    told.settle()
    assert told.slots("live") == ["a secondary x2", "b primary x1", "c primary x1"]
    assert (told.slots("kept"), told.phase()) == ([], "aborted")
    assert (told.state().held or "").startswith("b: switched, then exited with code 1")


def test_a_new_attempt_runs_the_bytes_that_a_stopped_line_left_elsewhere() -> None:
    """Found by the simulation (seed 7324): the tag had moved in between, and one version had two contents."""
    told = soaking("a", LOCAL)
    forward(told)
    bytes_of_first = told.state().rollout.image  # type: ignore[union-attr]
    told.obey("starting")
    told.elapsed = {facts.staging("shop/prod/web", told.state().rollout): 601.0}  # type: ignore[arg-type]
    told.decide()
    told.settle()
    assert (told.slots("live"), told.phase()) == (["a secondary x2", "b primary x1", "c primary x1"], "aborted")
    told.elapsed = {facts.aborted("shop/prod/web", told.state().rollout): 10.0}  # type: ignore[arg-type]
    told.decide()
    assert told.slots("staged") == ["b secondary x2"]
    assert told.state().rollout.image == bytes_of_first is not None  # type: ignore[union-attr]


def test_what_a_stopped_line_left_elsewhere_stays_known_in_the_next_rollout() -> None:
    told = soaking("b", LOCAL)
    crash(told, "b")
    told.decide()
    told.settle()
    told.commit(service(digest="x3", servers=ABC, rolling=LOCAL), revision=3).decide()
    assert [(other.spec, other.revision[:7]) for other in told.state().others] == [("x2", "0000002")]
    assert finish(told).slots("live") == ["a primary x3", "b secondary x3", "c secondary x3"]
    # Found by the simulation (seed 1632): on a it drains now, as x1 does on b and c, and nobody knew that it had had traffic.
    assert [other.spec for other in told.state().others] == ["x2"]
    told.commit(service(digest="x4", servers=ABC, rolling=LOCAL), revision=4).decide()
    assert [other.spec for other in told.state().others] == ["x2"]
    finish(told)
    assert told.state().others == ()


@pytest.mark.parametrize("rolling", [SLOWLY, LOCAL])
def test_a_gate_that_fails_on_the_first_server_switches_nothing(rolling: Rolling) -> None:
    told = begun(rolling)
    told.obey("failed")
    told.decide()
    assert (told.phase(), told.slots("live")) == ("aborted", ["a primary x1", "b primary x1", "c primary x1"])
    assert told.state().rejected is not None


@pytest.mark.parametrize(("rolling", "first"), [(SLOWLY, "a primary x1"), (LOCAL, "a secondary x2")])
def test_a_gate_that_fails_on_the_second_server(rolling: Rolling, first: str) -> None:
    told = soaking("a", rolling)
    forward(told)
    assert told.slots("staged") == ["b secondary x2"]
    told.obey("failed")
    told.decide()
    told.settle()
    assert told.slots("live") == [first, "b primary x1", "c primary x1"]
    assert told.phase() == "aborted"


def test_a_machine_that_lost_its_power_in_the_soak_is_no_fault_of_the_version() -> None:
    told = soaking("b")
    crash(told, "b", transient=True)
    told.decide()
    told.settle()
    assert (told.state().rejected, told.state().retries, told.phase()) == (None, 1, "aborted")
    assert "trying again after 10 s" in (told.state().held or "")
    rollout = told.state().rollout
    assert rollout is not None
    told.elapsed = {facts.aborted("shop/prod/web", rollout): 10.0}
    told.decide()
    assert told.slots("staged") == ["a secondary x2"]


def test_a_server_that_is_not_ready_in_time_takes_all_back_and_is_tried_again() -> None:
    told = soaking("a")
    forward(told)
    told.obey("starting")
    told.elapsed = {facts.staging("shop/prod/web", told.state().rollout): 601.0}  # type: ignore[arg-type]
    told.decide()
    assert reason(told) == "not ready on b after 600 s"
    told.settle()
    assert (told.slots("live"), told.state().retries) == (["a primary x1", "b primary x1", "c primary x1"], 1)


def test_a_crash_before_everybody_acknowledged_is_answered_at_once() -> None:
    told = begun()
    told.obey()
    told.decide()
    told.obey(only=("b",))
    crash(told, "a")
    told.decide()
    assert told.slots("live") == ["a primary x1", "b primary x1", "c primary x1"]


def test_an_old_instance_that_is_down_is_no_way_back_from_a_healthy_new_one() -> None:
    told = soaking("b")
    crash(told, "b")
    tell(told, "a", "primary", phase="starting", reason="exited with code 1")
    told.decide()
    assert told.slots("live") == ["a secondary x2", "b primary x1", "c primary x1"]
    assert told.slots("draining") == ["a primary x1", "b secondary x2"]


# What overtakes it


def test_a_newer_commit_takes_back_what_was_switched_before_it_is_staged() -> None:
    told = soaking("b").commit(service(digest="x3", servers=ABC, rolling=SLOWLY), revision=3)
    told.decide()
    assert told.slots("live") == ["a primary x1", "b primary x1", "c primary x1"]
    assert told.slots("staged") == []
    while not told.slots("staged"):
        before = told.slots("draining")
        forward(told)
    assert before == [], "nothing is staged into a slot that still drains"
    assert told.slots("staged") == ["a secondary x3"]
    assert told.state().live.spec == "x1"  # type: ignore[union-attr]
    assert [other.spec for other in told.state().others] == ["x2"], "what went back may still drain: its connections are counted"
    assert finish(told).slots("live") == ["a secondary x3", "b secondary x3", "c secondary x3"]


def test_the_next_version_is_not_staged_while_an_old_worker_lists_the_slot_as_live() -> None:
    told = soaking("b").commit(service(digest="x3", servers=ABC, rolling=SLOWLY), revision=3)
    told.decide()
    generation = told.cluster.generation  # type: ignore[union-attr]
    for _ in range(6):
        told.obey()
        told.reports["c"] = told.reports["c"].model_copy(update={"retired": generation - 1})
        told.decide()
    assert (told.phase(), told.slots("staged")) == ("aborted", [])
    assert "old nginx workers of c" in (told.state().held or "")


@pytest.mark.parametrize("server", ["a", "b", "c"])
def test_a_revert_starts_no_container(server: str) -> None:
    told = soaking(server).commit(service(servers=ABC, rolling=SLOWLY), revision=3)
    for _ in range(8):
        assert told.slots("staged") == []
        forward(told)
        told.decide()
    assert (told.slots("live"), told.phase()) == (["a primary x1", "b primary x1", "c primary x1"], "aborted")
    assert (told.state().held, told.state().rejected) == (None, None)


def test_suspend_before_the_first_switch_aborts() -> None:
    told = begun().commit(service(digest="x2", servers=ABC, rolling=SLOWLY, suspend=True), revision=3)
    assert finish(told).slots("live") == ["a primary x1", "b primary x1", "c primary x1"]
    assert (told.phase(), told.state().held) == ("aborted", "suspended in the config")


@pytest.mark.parametrize("forwards", [0, 1], ids=["in the soak", "while the next is staged"])
def test_suspend_in_the_middle_stops_the_line_where_it_is(forwards: int) -> None:
    told = soaking("a")
    for _ in range(forwards):
        forward(told)
    finish(told.commit(service(digest="x2", servers=ABC, rolling=SLOWLY, suspend=True), revision=3))
    assert told.slots("live") == ["a secondary x2", "b primary x1", "c primary x1"]
    assert (told.slots("kept"), told.state().held) == (["a primary x1"], "suspended in the config")
    finish(told.commit(service(digest="x2", servers=ABC, rolling=SLOWLY), revision=4))
    assert told.slots("live") == ["a secondary x2", "b secondary x2", "c secondary x2"]


def test_a_crash_while_the_line_is_suspended_is_still_taken_back() -> None:
    told = soaking("a")
    finish(told.commit(service(digest="x2", servers=ABC, rolling=SLOWLY, suspend=True), revision=3))
    crash(told, "a")
    told.decide()
    assert told.slots("live") == ["a primary x1", "b primary x1", "c primary x1"]


def test_a_service_removed_in_the_middle_goes_as_a_whole() -> None:
    told = soaking("b")
    told.commit(service("api", "y1"), revision=3).decide()
    assert told.slots("draining") == [
        "a primary x1",
        "a secondary x2",
        "b primary x1",
        "b secondary x2",
        "c primary x1",
    ]
    told.settle()
    assert "shop/prod/web" not in told.cluster.services  # type: ignore[union-attr]


def test_the_brake_makes_the_line_stand_still() -> None:
    told = soaking("b")
    told.commit(revision=3)
    finish(told)
    assert told.slots("kept") == ["a primary x1", "b primary x1"]
    assert told.state().held == "brake: removal of too many services at once"
    assert finish(told.commit(service(digest="x2", servers=ABC, rolling=SLOWLY), revision=4)).phase() == "done"


# Placement


def test_a_server_drained_in_the_middle_is_passed_over_and_left_at_the_end() -> None:
    told = soaking("a").commit(service(digest="x2", servers=("a", "b"), rolling=SLOWLY), revision=3)
    finish(told)
    assert told.slots("live") == ["a secondary x2", "b secondary x2"]
    assert not any(" switched on c" in why for why in told.reasons)


def test_a_switched_server_that_is_drained_keeps_its_traffic_until_the_end() -> None:
    told = soaking("a").commit(service(digest="x2", servers=("b", "c"), rolling=SLOWLY), revision=3)
    for _ in range(4):
        forward(told)
        assert "a secondary x2" in told.slots("live")
    assert finish(told).slots("live") == ["b secondary x2", "c secondary x2"]


def test_a_server_drained_while_it_is_staged_gives_its_turn_to_another() -> None:
    told = soaking("a")
    forward(told)
    assert told.slots("staged") == ["b secondary x2"]
    told.obey()
    told.commit(service(digest="x2", servers=("a", "c"), rolling=SLOWLY), revision=3).decide()
    assert (told.slots("staged"), told.state().rollout.id) == (["c secondary x2"], "0000002/2")  # type: ignore[union-attr]
    told.decide()
    assert told.phase() == "staging", "a vote on the batch before must not count"
    assert finish(told).slots("live") == ["a secondary x2", "c secondary x2"]


def test_a_server_removed_in_the_middle_holds_up_nobody() -> None:
    told = soaking("b")
    told.commit(service(digest="x2", servers=("a", "c"), rolling=SLOWLY), revision=3)
    told.want = told.want.model_copy(update={"servers": {name: told.want.servers[name] for name in ("a", "c")}})
    finish(told)
    assert (told.slots("live"), told.phase()) == (["a secondary x2", "c secondary x2"], "done")
    assert told.members() == ("a", "c")


def test_a_new_place_in_the_middle_gets_its_turn() -> None:
    told = begun(servers=("a", "b"))
    told.want = told.want.model_copy(update={"servers": {**told.want.servers, **story(service(), servers=ABC).want.servers}})
    told.commit(service(digest="x2", servers=ABC, rolling=SLOWLY), revision=3)
    finish(told)
    assert told.slots("live") == ["a secondary x2", "b secondary x2", "c primary x2"]
    assert told.members() == ABC


def test_a_new_place_is_given_up_when_everything_is_taken_back() -> None:
    told = begun()
    told.commit(service(digest="x2", servers=("a", "b"), rolling=SLOWLY), revision=3)
    told = story(service(servers=("a", "b"), rolling=SLOWLY), servers=ABC)
    told.commit(service(digest="x2", servers=ABC, rolling=SLOWLY), revision=2).decide()
    for _ in range(8):
        forward(told)
    assert told.slots("live") == ["a secondary x2", "b secondary x2", "c primary x2"]
    assert told.phase() == "soaking"
    told.obey()
    crash(told, "c", "primary")
    told.decide()
    assert told.slots("live") == ["a primary x1", "b primary x1"]
    told.settle()
    assert (told.slots("live"), told.phase()) == (["a primary x1", "b primary x1"], "aborted")


def test_other_settings_of_the_line_hold_from_the_next_step_on() -> None:
    told = soaking("a").commit(service(digest="x2", servers=ABC, rolling=Rolling(max_parallel=5)), revision=3)
    forward(told)
    assert told.slots("staged") == ["b secondary x2", "c secondary x2"]
