"""decide: removals and the brake, secrets, placement, members, and what is found again after a loss."""

from __future__ import annotations

import pytest

from reconciler.model.desired import DesiredService
from reconciler.model.report import InstanceReport, Report
from reconciler.plan.rebuild import unsettled
from tests.plan.build import Story, desired, service, story

NAMES = tuple("pqrstuvw")


def many(names: tuple[str, ...] = NAMES) -> tuple[DesiredService, ...]:
    """Services by their names."""
    return tuple(service(name) for name in names)


def asking(told: Story, server: str = "a", name: str = "web") -> None:
    """A server says that the secrets of a service changed."""
    told.reports[server] = told.report(server).model_copy(update={"refresh": (f"shop/prod/{name}",)})


# Removal


def test_a_removed_service_drains_after_the_acknowledgement_and_is_forgotten() -> None:
    told = story(service(), service("api", "y1"))
    told.commit(service(), revision=2).decide()
    assert (told.phase("api"), told.slots("live", "api")) == ("switching", [])
    told.decide()
    assert told.phase("api") == "switching"
    told.settle()
    assert told.cluster is not None and "shop/prod/api" not in told.cluster.services


def test_a_removed_project_goes_when_the_commit_says_so() -> None:
    told = story(*many()).commit(revision=2, allow=("shop",)).settle()
    assert told.cluster is not None and told.cluster.services == {}


def test_a_service_that_comes_back_while_it_drains_starts_after_that() -> None:
    told = story(service(), service("api", "y1"))
    told.commit(service(), revision=2).decide()
    told.commit(service(), service("api", "y2"), revision=3).settle()
    assert told.slots("live", "api") == ["a primary y2"]


def test_a_removal_before_the_first_switch_leaves_nothing() -> None:
    told = story(service())
    told.commit(service(), service("api", "y1"), revision=2).decide()
    told.commit(service(), revision=3).decide()
    assert told.cluster is not None and "shop/prod/api" not in told.cluster.services


# The brake


@pytest.mark.parametrize(("left", "held"), [(6, False), (5, True), (0, True)])
def test_more_than_one_and_more_than_a_quarter_is_held_back(left: int, held: bool) -> None:
    told = story(*many()).commit(*many(NAMES[:left]), revision=2).settle()
    assert told.cluster is not None
    assert (told.cluster.brake is not None) == held
    assert len(told.cluster.services) == (8 if held else left)


def test_one_of_two_is_no_mass_removal_and_the_last_one_is() -> None:
    told = story(service(), service("api", "y1")).commit(service(), revision=2).settle()
    assert told.cluster is not None and told.cluster.brake is None
    told.commit(revision=3).settle()
    assert told.cluster.brake is not None or told.cluster.services
    assert told.slots("live") == ["a primary x1"]


@pytest.mark.parametrize("name", ["shop", "shop/prod"])
def test_allow_removals_by_project_and_environment(name: str) -> None:
    told = story(*many()).commit(service("p"), revision=2, allow=(name,)).settle()
    assert told.cluster is not None and set(told.cluster.services) == {"shop/prod/p"}


def test_allow_removals_by_service_lets_only_those_go() -> None:
    told = story(*many()).commit(service("p"), revision=2, allow=("shop/prod/q", "shop/prod/r")).settle()
    assert told.cluster is not None
    assert {"shop/prod/q", "shop/prod/r"}.isdisjoint(told.cluster.services)
    assert "shop/prod/s" in told.cluster.services


def test_the_rest_of_a_braked_commit_proceeds_and_the_brake_is_released() -> None:
    told = story(*many()).commit(service("p", "x2"), revision=2).settle()
    assert told.slots("live", "p") == ["a secondary x2"]
    assert "brake" in (told.state("q").held or "")
    told.commit(service("p", "x2"), *many(NAMES[1:]), revision=3).settle()
    assert told.cluster is not None and told.cluster.brake is None
    assert told.state("q").held is None


def test_what_has_switched_finishes_under_the_brake() -> None:
    told = story(*many()).commit(*(service(n, "x2" if n == "q" else "x1") for n in NAMES), revision=2)
    told.decide()
    told.obey()
    told.decide()
    assert told.phase("q") == "switching"
    told.commit(service("p"), revision=3)
    told.obey()
    told.settle()
    assert (told.phase("q"), told.slots("draining", "q")) == ("done", [])


def test_a_service_whose_file_is_invalid_is_never_removed() -> None:
    told = story(service())
    told.want = desired(revision=2, invalid=("shop/prod",), library=(service(),))
    told.settle()
    assert (told.slots("live"), told.state().held) == (["a primary x1"], "shop/prod is invalid")


# Secrets


def test_changed_secrets_are_a_rollout_of_one_server() -> None:
    told = story(service(servers=("a", "b")), servers=("a", "b"))
    for server in ("a", "b"):
        asking(told, server)
    told.decide()
    assert told.slots("staged") == ["a secondary x1"]
    told.settle()
    assert told.slots("live") == ["a secondary x1", "b primary x1"]


def test_changed_secrets_wait_for_a_rollout_that_is_under_way() -> None:
    told = story(service()).commit(service(digest="x2"), revision=2)
    told.decide()
    told.obey()
    told.decide()
    asking(told)
    told.decide()
    told.decide()
    rollout = told.state().rollout
    assert rollout is not None and (rollout.strategy, rollout.target) == ("toggle", "x2")


def test_a_wish_from_before_the_last_switch_does_not_count() -> None:
    told = story(service())
    old = told.report("a").model_copy(update={"refresh": ("shop/prod/web",)})
    told.commit(service(digest="x2"), revision=2).settle()
    told.reports["a"] = old.model_copy(update={"retired": 99})
    assert told.decide().reasons == ()


def test_a_newer_version_overtakes_a_refresh() -> None:
    told = story(service())
    asking(told)
    told.decide()
    told.commit(service(digest="x2"), revision=2).settle()
    assert told.slots("live") == ["a secondary x2"]


def test_a_refresh_of_a_recreate_service_stays_in_its_slot() -> None:
    told = story(service(recreate=True))
    asking(told)
    told.decide()
    told.settle()
    assert told.slots("live") == ["a primary x1"]
    assert any("replacing on a: secrets changed on a" in reason for reason in told.reasons)


# Placement and members


def test_a_service_moves_without_a_gap() -> None:
    told = story(service(servers=("a",)), servers=("a", "b"))
    told.commit(service(servers=("b",)), revision=2).decide()
    assert (told.slots("live"), told.slots("staged")) == (["a primary x1"], ["b primary x1"])
    told.obey()
    told.decide()
    told.reports["a"] = told.report("a").model_copy(update={"retired": 0})
    told.reports["b"] = told.report("b")
    told.decide()
    assert told.phase() == "switching"
    told.settle()
    assert told.slots("live") == ["b primary x1"]


def test_fewer_and_more_replicas() -> None:
    told = story(service(replicas=2))
    assert len(told.slots("live")) == 2
    told.commit(service(replicas=1), revision=2).settle()
    assert told.slots("live") == ["a primary x1"]
    told.commit(service(replicas=3), revision=3).settle()
    assert len(told.slots("live")) == 3


def test_a_place_that_goes_while_it_is_staged_is_not_waited_for() -> None:
    told = story(service(servers=("a", "b")), servers=("a", "b"))
    told.commit(service(digest="x2", servers=("a", "b")), revision=2).decide()
    told.commit(service(digest="x2", servers=("a",)), revision=3).decide()
    assert told.phase() == "aborted"
    told.obey(only=("a", "b"))
    told.settle()
    assert told.slots("live") == ["a secondary x2"]


def test_a_newcomer_is_added_once_it_has_reported() -> None:
    told = story(service())
    told.want = desired(service(), revision=2, servers=("a", "b"))
    told.decide()
    assert told.members() == ("a",)
    told.reports["b"] = Report(server="b", instance="b", program="1")
    told.decide()
    assert told.members() == ("a", "b")


def test_a_newcomer_keeps_what_is_live_on_it() -> None:
    told = story(service(servers=("a",)))
    told.want = desired(service(servers=("a", "b")), revision=2, servers=("a", "b"))
    entry = InstanceReport(service="shop/prod/web", slot="secondary", spec="x1", phase="live")
    told.reports["b"] = Report(server="b", instance="b", program="1", instances=(entry,))
    told.decide()
    assert "b secondary x1" in told.slots("live")


def test_a_server_out_of_the_inventory_is_not_waited_for() -> None:
    told = story(service(servers=("a", "b")), servers=("a", "b"))
    told.want = desired(service(servers=("a",)), revision=2, servers=("a",))
    told.settle()
    assert told.cluster is not None and told.cluster.members == ("a",)
    assert (told.phase(), told.slots("live")) == ("done", ["a primary x1"])


# After a loss


def found(slot: str, spec: str, phase: str) -> InstanceReport:
    """What a server says without a decision."""
    return InstanceReport.model_validate({"service": "shop/prod/web", "slot": slot, "spec": spec, "phase": phase})


def rebuilt(*entries: InstanceReport) -> Story:
    """The cluster state is gone, and these run on a."""
    told = Story(desired(service(digest="x2"), library=(service(),)))
    told.reports["a"] = Report(server="a", instance="a", program="1", instances=entries)
    told.decide()
    return told


def test_the_older_healthy_instance_is_live_and_the_other_drains_after_the_acknowledgement() -> None:
    told = rebuilt(found("secondary", "x1", "live"), found("primary", "x2", "live"))
    assert (told.slots("live"), told.slots("draining"), told.phase()) == (["a secondary x1"], ["a primary x2"], "switching")
    told.decide()
    assert told.phase() == "switching"
    told.obey()
    told.settle()
    assert told.slots("live") == ["a primary x2"]


def test_what_never_passed_its_gate_is_never_live() -> None:
    told = rebuilt(found("primary", "x1", "failed"), found("secondary", "x2", "live"))
    assert told.slots("live") == ["a secondary x2"]


def test_what_runs_on_a_server_out_of_the_inventory_is_reached_where_it_says_it_is() -> None:
    """The state is gone, and b was removed a moment ago: only b itself still knows the address by which a reaches it."""
    told = Story(desired(service(), servers=("a",)))
    told.reports["a"] = Report(server="a", instance="a", program="1")
    told.reports["b"] = Report(
        server="b", instance="b", program="1", address="10.0.0.2", instances=(found("primary", "x1", "live"),)
    )
    told.decide()
    assert told.slots("live") == ["b primary x1"]
    assert told.cluster is not None and told.cluster.addresses == {"b": "10.0.0.2"}


def test_gates_are_waited_for_before_a_state_is_created() -> None:
    report = Report(server="a", instance="a", program="1", instances=(found("primary", "x1", "starting"),))
    assert unsettled({"a": report}) == ("shop/prod/web",)


def test_everybody_who_had_seen_a_decision_has_to_acknowledge_anew() -> None:
    told = story(service(servers=("a", "b")), servers=("a", "b"))
    told.cluster = None
    told.decide()
    assert told.cluster is not None
    told.cluster = told.cluster.model_copy(update={"epoch": "e2"})
    told.reports["a"] = told.report("a")
    told.decide()
    assert told.phase() == "switching"
