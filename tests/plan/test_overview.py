"""What the decision, the reports and the history come to: who is behind and by how long, and what is not in order."""

from __future__ import annotations

import pytest

from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Rolling, ServerEntry
from reconciler.model.overview import Decided, Facts, Moment, Overview, Since, Tip
from reconciler.model.report import Condition, Report
from reconciler.plan.overview import overview
from reconciler.render.terminal_overview import where
from tests.plan.build import Story, service, story

NOW = 10_000
BOTH = ("a", "b")


def moment(at: int, commit: str = "c", by: str = "a") -> Moment:
    return Moment(commit=commit, at=at, iso=f"at {at}", by=by)


def facts(begun: Story, **given: object) -> Facts:
    """A decision every hundred seconds, the newest a hundred seconds ago; the tip is followed."""
    assert begun.cluster is not None
    generations = range(begun.cluster.generation, 0, -1)
    decisions = tuple(Decided(g, moment(NOW - 100 * (index + 1), f"g{g}"), begins=g == 1) for index, g in enumerate(generations))
    known = {name: ServerEntry(name=name, zone="lon1") for name in begun.want.servers}
    base: dict[str, object] = {
        "tip": Tip(begun.cluster.config, moment(5), 0),
        "servers": known,
        "decisions": decisions,
        "reported": {name: moment(NOW - 60) for name in begun.reports},
    }
    return Facts(**{**base, **given})  # type: ignore[arg-type]


def seen(begun: Story, **given: object) -> Overview:
    return overview(begun.cluster, begun.reports, facts(begun, **given), NOW)


def converged() -> Story:
    return story(service(servers=BOTH), servers=BOTH)


def words(found: Overview, name: str = "b") -> tuple[str, ...]:
    return next(one.words for one in found.servers if one.server == name)


def with_report(begun: Story, name: str, **update: object) -> Story:
    begun.reports[name] = begun.reports[name].model_copy(update=update)
    return begun


def test_a_converged_cluster_is_in_order() -> None:
    found = seen(converged())
    assert found.in_order
    assert [s.server for s in found.servers] == ["a", "b"]
    assert {p.server: p.phase for p in found.services[0].places} == {"a": "live", "b": "live"}


def test_a_member_is_behind_since_the_oldest_decision_that_it_has_not_seen() -> None:
    begun = converged()
    old = begun.reports["b"]
    for number in (2, 3, 4):
        begun.commit(service(digest=f"x{number}", servers=BOTH), revision=number).decide()
    begun.reports = {"a": begun.report("a"), "b": old}
    assert begun.cluster is not None and old.seen is not None
    (_, b) = seen(begun).servers
    assert b.behind is not None and not b.behind.seen
    assert b.behind.last == old.seen.generation and b.behind.current == begun.cluster.generation
    assert b.behind.since is not None and b.behind.since.commit == f"g{old.seen.generation + 1}"
    assert b.behind.seconds == 100 * (begun.cluster.generation - old.seen.generation)


def test_a_member_that_has_seen_the_decision_and_does_not_serve_it_is_behind_too() -> None:
    begun = converged()
    begun.commit(service(digest="x2", servers=BOTH), revision=2).decide()
    report = begun.report("b")
    assert report.serving is not None
    begun.obey(only=("a",))
    begun.reports["b"] = report.model_copy(
        update={"serving": report.serving.model_copy(update={"generation": report.serving.generation - 1})}
    )
    (a, b) = seen(begun).servers
    assert a.behind is None
    assert b.behind is not None and b.behind.seen and b.behind.seconds == 100


def test_a_report_of_another_epoch_lacks_everything_since_the_epoch_began() -> None:
    begun = converged()
    report = begun.reports["b"]
    assert report.seen is not None
    with_report(begun, "b", seen=report.seen.model_copy(update={"epoch": "before"}))
    (_, b) = seen(begun).servers
    assert b.behind is not None and b.behind.last is None and b.seen is None
    assert b.behind.since is not None and b.behind.since.commit == "g1"


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    begun = converged()
    found = seen(begun, reported={"a": moment(NOW + 500)}, live={"shop/prod/web": Since(moment(NOW + 1))})
    assert found.servers[0].reported_seconds == 0
    assert found.services[0].since_seconds == 0


def test_a_member_without_a_report_is_named_and_nothing_is_said_of_how_far_it_is() -> None:
    begun = converged()
    del begun.reports["b"]
    found = seen(begun)
    assert any("does not report" in text for text in words(found))
    assert found.servers[1].behind is None and not found.in_order


@pytest.mark.parametrize("reports", [True, False])
def test_a_server_of_the_inventory_that_is_no_member_is_a_newcomer(reports: bool) -> None:
    begun = converged()
    inventory = {name: ServerEntry(name=name) for name in ("a", "b", "c")}
    if reports:
        begun.reports["c"] = Report(server="c", instance="c", program="1")
    newcomer = seen(begun, servers=inventory).servers[2]
    assert newcomer.part == ("newcomer" if reports else "silent newcomer")
    assert not newcomer.in_order


def test_a_drained_and_empty_server_is_in_order_and_says_so() -> None:
    begun = story(service(servers=("a",)), servers=BOTH)
    inventory = {"a": ServerEntry(name="a"), "b": ServerEntry(name="b", state="drained")}
    found = seen(begun, servers=inventory)
    assert found.servers[1].remarks == ("drained, and empty",)
    assert found.in_order
    full = seen(begun, servers={"a": ServerEntry(name="a", state="drained"), "b": ServerEntry(name="b")})
    assert full.servers[0].remarks == ("drained; still there: shop/prod/web",)


def test_a_server_that_left_the_inventory_is_told_with_the_branch_to_delete() -> None:
    begun = story(service(servers=("a",)), servers=("a",))
    begun.reports["old"] = Report(server="old", instance="o", program="1")
    found = seen(begun)
    assert found.servers[1].part == "removed"
    assert found.servers[1].remarks == ("gone; delete the branch status/old",)
    assert found.in_order


def test_two_machines_that_report_in_turns_are_named_and_a_new_machine_is_only_mentioned() -> None:
    begun = converged()
    found = seen(begun, machines={"a": ("x", "y", "x"), "b": ("new", "old")})
    assert any("two machines report as a" in text and "x and y" in text for text in words(found, "a"))
    assert words(found, "b") == ()
    assert any("another machine" in text for text in found.servers[1].remarks)


def test_conditions_and_failed_instances_are_told_and_ready_is_not() -> None:
    begun = converged()
    refused = Condition(type="NginxLoaded", status=False, reason="Refused", message="nginx: unknown directive")
    ready = Condition(type="Ready", status=False, reason="Progressing", message="elsewhere")
    with_report(begun, "b", conditions=(ready, refused))
    assert words(seen(begun)) == ("Refused: nginx: unknown directive",)


def test_a_live_instance_that_its_server_does_not_call_live_is_told_with_its_service() -> None:
    begun = converged()
    report = begun.reports["b"]
    down = tuple(e.model_copy(update={"phase": "starting", "reason": "exited with code 1"}) for e in report.instances)
    found = seen(with_report(begun, "b", instances=down))
    assert found.services[0].words == ("b primary is starting: exited with code 1",)
    assert not found.in_order


def test_an_unreadable_report_is_told_as_it_is() -> None:
    begun = converged()
    del begun.reports["b"]
    found = seen(begun, unreadable={"b": "status/b: it is not YAML"})
    assert words(found) == ("status/b: it is not YAML",)


def test_in_the_middle_of_a_line_each_place_has_the_revision_that_it_runs() -> None:
    rolling = Rolling(soak=30.0)
    begun = story(service(servers=BOTH, rolling=rolling), servers=BOTH)
    begun.commit(service(digest="x2", servers=BOTH, rolling=rolling), revision=2).decide()
    for _ in range(3):
        begun.obey()
        begun.decide()
    begun.obey()
    (web,) = seen(begun).services
    assert {(p.server, p.revision[:7]) for p in web.places if p.role == "live" and p.revision} == {
        ("a", "0000002"),
        ("b", "0000001"),
    }
    assert web.rollout is not None and web.rollout.waits_for == ("soaking for 30 s on a (1 of 2 servers)",)
    assert where(web.places, web.live) == "b primary, a secondary 0000002"


def test_without_a_decision_reports_and_inventory_are_still_shown() -> None:
    begun = converged()
    found = overview(None, begun.reports, facts(begun, problems=("status/cluster is not YAML",)), NOW)
    assert [one.part for one in found.servers] == ["unknown", "unknown"]
    assert found.generation is None and not found.in_order
    assert found.problems == ("status/cluster is not YAML",)


def test_commits_that_are_not_followed_yet_are_not_in_order() -> None:
    begun = converged()
    assert not seen(begun, tip=Tip("t" * 40, moment(NOW - 5), 2)).in_order
    assert not seen(begun, tip=Tip("t" * 40, moment(NOW - 5), None)).in_order


def test_a_refused_version_has_its_subject_reason_and_last_words() -> None:
    begun = converged()
    begun.commit(service(digest="x2", servers=BOTH), revision=2).decide()
    begun.obey("failed")
    begun.decide()
    begun.decide()
    sha = begun.want.revision.sha
    (web,) = seen(begun, subjects={sha: "Bump web"}).services
    assert web.refused is not None and web.refused.subject == "Bump web" and "connection refused" in web.refused.reason
    assert not web.in_order


def test_a_service_name_that_only_a_hand_could_have_written_is_shown_all_the_same() -> None:
    begun = converged()
    begun.commit(service(digest="x2", servers=BOTH), revision=2).decide()
    cluster = begun.cluster
    assert isinstance(cluster, ClusterState)
    odd = cluster.model_copy(update={"services": {"not a key": begun.state()}})
    (found,) = overview(odd, begun.reports, facts(begun), NOW).services
    assert found.service == "not a key" and found.rollout is not None
