"""plan and report of one server in a rolling rollout: what is kept runs on, what was switched is watched."""

from __future__ import annotations

import pytest

from reconciler.model.action import StartContainer
from reconciler.model.desired import Rolling
from reconciler.model.observed import Gate
from reconciler.plan import facts
from reconciler.plan.gates import gate_targets
from tests.plan.build import service, story
from tests.plan.server import Server

SECONDARY = "shop_prod_web_secondary"


def soaking(*, sidecar: bool = False) -> Server:
    """x2 was switched over x1 on the one server, and soaks."""
    there = Server(story(service(rolling=Rolling(), sidecar=sidecar))).calm()
    there.story.commit(service(digest="x2", rolling=Rolling(), sidecar=sidecar), revision=2).decide()
    there.carry_out()
    there.carry_out()
    for phase in ("switching", "soaking"):
        there.story.obey()
        there.story.decide()
        assert there.story.phase() == phase
        there.carry_out()
    good(there)
    return there


def good(there: Server) -> None:
    """Its gate is passed."""
    there.overrides["gates"] = {there.box(SECONDARY).id: Gate(state="passed", after=2.0)}


def test_both_slots_run_while_the_new_one_soaks() -> None:
    there = soaking()
    assert there.plan() == ()
    found = there.says()
    assert (found["primary"].phase, found["secondary"].phase) == ("kept", "live")
    assert (found["primary"].spec, found["secondary"].spec) == ("x1", "x2")


def test_what_is_kept_is_brought_back_when_it_ends() -> None:
    there = soaking()
    there.stop("shop_prod_web")
    (start,) = there.plan()
    assert isinstance(start, StartContainer) and start.name == "shop_prod_web"
    entry = there.says()["primary"]
    assert (entry.phase, entry.reason) == ("starting", "exited with code None")
    observed = there.observe()
    assert facts.down(next(c.instance for c in observed.containers if c.name == "shop_prod_web" and c.instance)) in facts.current(
        there.story.cluster, {}, observed
    )


def test_what_was_switched_is_probed_for_as_long_as_it_soaks() -> None:
    there = soaking()
    target = gate_targets(there.story.want, there.story.cluster, there.observe())[there.box(SECONDARY).id]
    assert (target.container.name, target.stays) == (SECONDARY, True)
    rollout = there.story.state().rollout
    assert rollout is not None
    there.story.obey()
    there.story.elapsed = {facts.staging("shop/prod/web", rollout): 30.0}
    there.story.decide()
    assert gate_targets(there.story.want, there.story.cluster, there.observe()) == {}


@pytest.mark.parametrize("status", ["exited", "dead", "restarting", "paused"])
def test_a_switched_instance_that_ends_is_a_failure_and_is_left_for_the_decision(status: str) -> None:
    there = soaking()
    there.stop(SECONDARY, status)
    there.overrides["gates"] = {there.box(SECONDARY).id: Gate(state="failed", error="gone", log=("last words",))}
    entry = there.says()["secondary"]
    assert (entry.phase, entry.transient, entry.log) == ("failed", False, ("last words",))
    assert (entry.reason or "").startswith(f"switched, then {status}")
    assert there.plan() == ()


def test_a_switched_instance_that_fails_its_probes_is_a_failure() -> None:
    there = soaking()
    there.overrides["gates"] = {there.box(SECONDARY).id: Gate(state="failed", error="status 500")}
    assert there.says()["secondary"].reason == "switched, then unhealthy: status 500"


def test_a_daemon_that_was_restarted_says_nothing_bad_of_what_it_has_not_probed_yet() -> None:
    there = soaking()
    there.overrides["gates"] = {}
    assert there.says()["secondary"].phase == "starting"


def test_a_machine_that_lost_its_power_is_no_failure_of_the_version() -> None:
    there = soaking()
    for name in ("shop_prod_web", SECONDARY):
        there.stop(name)
        there.box(name).exit_code = 255
    assert there.says()["secondary"].phase == "starting"


def test_an_instance_removed_by_hand_is_put_back_and_holds_up_the_line() -> None:
    there = soaking()
    there.remove(SECONDARY)
    assert there.says()["secondary"].phase == "starting"
    assert [action.kind for action in there.carry_out()] == ["prepare_image"]  # the very bytes, once more
    assert [action.kind for action in there.plan()] == ["start_instance"]


def test_nginx_has_the_kept_slot_behind_the_switched_one() -> None:
    there = soaking(sidecar=False)
    observed = there.observe()
    (upstream,) = there.intended(observed)["nginx_host"].config.upstreams
    assert [(peer.address, peer.backup) for peer in upstream.peers][1][1] is True
    assert len(upstream.peers) == 2
