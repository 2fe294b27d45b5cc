"""What a rollout waits for is said by name, from the reports alone."""

from __future__ import annotations

from reconciler.model.report import InstanceReport, Report
from reconciler.plan.waiting import waits_for
from tests.plan.build import Story, key, service, story

BOTH = ("a", "b")


def waits(begun: Story) -> tuple[str, ...]:
    assert begun.cluster is not None
    return waits_for(key(), begun.state(), begun.cluster, begun.reports)


def staging() -> Story:
    """Version x2 is staged on both servers; nobody has said anything."""
    begun = story(service(servers=BOTH), servers=BOTH)
    begun.commit(service(digest="x2", servers=BOTH), revision=2).decide()
    return begun


def switched() -> Story:
    begun = staging()
    begun.obey()
    begun.decide()
    assert begun.phase() == "switching"
    return begun


def changed(report: Report, **update: object) -> Report:
    """The report with its entry in the secondary slot changed."""
    entries = tuple(e.model_copy(update=update) if e.slot == "secondary" else e for e in report.instances)
    return report.model_copy(update={"instances": entries})


def test_nothing_is_waited_for_where_no_rollout_is_under_way() -> None:
    assert waits(story(service(servers=BOTH), servers=BOTH)) == ()


def test_servers_that_have_not_spoken_are_named_together() -> None:
    assert waits(staging()) == ("waiting for a, b to say anything of it",)


def test_a_server_is_named_with_what_it_does_and_its_own_reason() -> None:
    begun = staging()
    begun.obey(only=("a",))
    begun.reports["b"] = changed(begun.report("b", "starting"), reason="connection refused")
    assert waits(begun) == ("waiting for b to become healthy: connection refused",)
    begun.reports["b"] = begun.report("b", "preparing")
    assert waits(begun) == ("waiting for b to prepare the image",)


def test_a_failure_goes_before_those_who_are_still_waited_for() -> None:
    begun = staging()
    begun.reports["b"] = begun.report("b", "failed")
    assert waits(begun) == ("b failed: connection refused", "waiting for a to say anything of it")


def test_all_ready_waits_for_nobody_by_name() -> None:
    begun = staging()
    begun.obey()
    assert waits(begun) == ("every server is ready; the next pass of a member goes on",)


def test_after_the_switch_those_who_have_not_acknowledged_it_are_named_with_the_generation() -> None:
    begun = switched()
    begun.obey(only=("a",))
    assert begun.cluster is not None
    assert waits(begun) == (f"waiting for b to acknowledge generation {begun.cluster.generation}",)


def test_the_decisions_own_words_are_not_said_twice() -> None:
    begun = switched()
    begun.obey(only=("a",))
    begun.decide()
    assert begun.state().rollout is not None and begun.state().rollout.reason  # type: ignore[union-attr]
    assert len(waits(begun)) == 1


def test_while_a_sole_member_drains_the_connections_of_its_old_instance_are_told() -> None:
    begun = story(service()).commit(service(digest="x2"), revision=2)
    begun.decide()
    begun.obey()
    begun.decide()
    begun.obey()
    begun.decide()
    assert begun.phase() == "draining"
    old = InstanceReport(service=str(key()), slot="primary", spec="x1", phase="draining", connections=3)
    begun.obey()
    report = begun.reports["a"]
    begun.reports["a"] = report.model_copy(update={"instances": (*report.instances, old)})
    assert waits(begun) == ("waiting for a (3 connections) to end the old instance",)


def test_a_recreate_names_whose_turn_it_is() -> None:
    begun = story(service(servers=BOTH, recreate=True), servers=BOTH)
    begun.commit(service(digest="x2", servers=BOTH, recreate=True), revision=2).decide()
    assert waits(begun) == ("waiting for a, b to say anything of it",)
    begun.obey()
    begun.decide()
    assert begun.phase() == "replacing"
    assert waits(begun) == ("waiting for a, whose turn it is",)


def test_a_removal_waits_for_acknowledgements_and_old_workers() -> None:
    begun = story(service(servers=BOTH), service("api", servers=BOTH), service("db", servers=BOTH), servers=BOTH)
    begun.commit(service("api", servers=BOTH), service("db", servers=BOTH), revision=2).decide()
    assert begun.cluster is not None
    generation = begun.cluster.generation
    assert waits(begun) == (f"waiting for a, b to acknowledge generation {generation}",)
    begun.reports = {
        name: begun.report(name).model_copy(update={"retired": generation - 1 if name == "b" else generation}) for name in BOTH
    }
    assert "waiting for old nginx workers of b" in waits(begun)
