"""`status --cluster` tells the whole cluster from a repository alone, whatever stands in its status branches."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.model.report import Report
from tests.commands.clustered import BEGAN, Clustered
from tests.commands.told import Told, contents, run
from tests.plan.build import service
from tests.remote import Remote

ALL = ("a", "b", "c")
WEB = service("web", servers=ALL)
API = service("api", servers=("a", "b"))


@pytest.fixture
def fine(git_remote: Remote) -> Clustered:
    """Three servers in two zones and two services, all settled."""
    made = Clustered(git_remote, ALL, zones={"c": "ams1"})
    made.commit(WEB, API, subject="First deploy")
    made.settle()
    return made


def glance(where: Remote | Path, *arguments: object, env: Mapping[str, str] | None = None) -> Told:
    """From a laptop: no settings file, no server, no state directory."""
    path = where.path if isinstance(where, Remote) else where
    return run("status", "--cluster", "--repo", path, *arguments, env={"COLUMNS": "140", **(env or {})})


def found(where: Remote, *arguments: object) -> dict[str, object]:
    document: dict[str, object] = json.loads(glance(where, "--json", *arguments).stdout)
    return document


def one(document: Mapping[str, object], kind: str, name: str) -> Mapping[str, object]:
    entries = document[kind]
    assert isinstance(entries, list)
    return next(entry for entry in entries if name in (entry.get("server"), entry.get("service")))


def rolling(made: Clustered) -> Clustered:
    """A newer web is switched; `b` has not seen that."""
    made.now += 3600
    made.commit(service("web", "x2", servers=ALL), API, subject="Bump web")
    made.decide()
    made.report(*ALL)
    made.now += 30
    made.decide()
    made.report("a", "c")
    made.decide()
    return made


def test_a_settled_cluster_is_said_to_be_in_order_with_what_runs_where_and_since_when(fine: Clustered) -> None:
    days = [int((time.time() - BEGAN) // 86400)]
    told = glance(fine.remote, "--detailed-exitcode")
    days.append(int((time.time() - BEGAN) // 86400))  # another number, if a day was full meanwhile
    assert told.exit_code == 0, told.output
    assert "3 servers: all in order; 2 services: all live as desired." in told.stdout
    row = next(line for line in told.stdout.splitlines() if line.startswith("shop/prod/web"))
    assert "a primary, b primary, c primary" in row and "First deploy" in row
    assert any(f"about {count} days" in row for count in days)
    assert "ams1" in next(line for line in told.stdout.splitlines() if line.startswith("c "))


def test_looking_writes_nothing_to_the_repository(fine: Clustered) -> None:
    before = contents(fine.remote.path)
    glance(fine.remote)
    assert contents(fine.remote.path) == before


def test_a_rollout_names_whom_it_waits_for_and_the_server_behind_says_since_which_commit(fine: Clustered) -> None:
    made = rolling(fine)
    told = glance(made.remote, "--detailed-exitcode")
    assert told.exit_code == 3
    assert made.story.cluster is not None
    generation = made.story.cluster.generation
    assert f"waiting for b to acknowledge generation {generation}" in told.stdout
    row = next(line for line in told.stdout.splitlines() if line.startswith("b "))
    assert "behind for about" in row
    assert f"has not seen generation {generation} (the last was {generation - 1})" in told.stdout


def test_since_is_the_commit_that_made_it_live_however_much_happened_afterwards(fine: Clustered) -> None:
    made = rolling(fine)
    made.settle()
    switch = next(c.sha for c in made.remote.log("status/cluster") if "shop/prod/web live on a secondary" in c.subject)
    for number in range(3):
        made.now += 1000
        made.commit(service("web", "x2", servers=ALL), service("api", f"y{number}", servers=("a", "b")), subject=f"api {number}")
        made.settle()
    document = found(made.remote)
    web, api = one(document, "services", "shop/prod/web"), one(document, "services", "shop/prod/api")
    assert web["since"]["moment"]["commit"] == switch  # type: ignore[index]
    assert api["since"]["moment"]["at"] == made.now  # type: ignore[index]
    assert web["since"]["at_least"] is False  # type: ignore[index]


def test_a_way_back_counts_from_the_way_back(fine: Clustered) -> None:
    made = rolling(fine)
    made.settle()
    made.now += 500
    made.commit(WEB, API, subject="Revert")
    made.settle()
    assert one(found(made.remote), "services", "shop/prod/web")["since"]["moment"]["at"] == made.now  # type: ignore[index]


def test_where_the_history_was_cut_off_since_is_at_least(fine: Clustered) -> None:
    tree = fine.remote.git("rev-parse", "status/cluster^{tree}")
    root = fine.remote.git("commit-tree", tree, "-m", "a: compacted\n\nConfig-Revision: 1\nGeneration: 2\nServer: a")
    fine.remote.move("status/cluster", root)
    since = one(found(fine.remote), "services", "shop/prod/web")["since"]
    assert since["at_least"] is True and since["moment"]["commit"] == root  # type: ignore[index]
    assert "over " in glance(fine.remote).stdout


def test_a_refused_version_is_told_with_its_reason_and_how_to_try_again(fine: Clustered) -> None:
    fine.commit(service("web", "x2", servers=ALL), API, subject="Bump web")
    fine.decide()
    fine.report("a", "c")
    fine.report("b", phase="failed")
    fine.decide()
    fine.decide()
    told = glance(fine.remote)
    assert "was refused: b: connection refused" in told.stdout
    assert "reconcile retry shop/prod/web" in " ".join(told.stdout.split())
    assert "1 refused" in told.stdout


def test_one_service_shows_every_place_and_what_its_server_says(fine: Clustered) -> None:
    told = glance(fine.remote, "web")
    rows = [line.split() for line in told.stdout.splitlines()]
    assert ["c", "ams1", "primary", fine.story.want.revision.sha[:7], "live", "live"] in rows
    assert "shop/prod/api" not in told.stdout
    assert glance(fine.remote, "nope").exit_code == 1


def test_status_branches_may_live_in_another_repository(fine: Clustered, tmp_path: Path) -> None:
    config = Remote.create(tmp_path / "config.git")
    config.git("fetch", "--quiet", str(fine.remote.path), "main:main")
    assert "is not there" in glance(config).stdout
    assert "3 servers: all in order" in glance(config, "--status-repo", fine.remote.path).stdout


def test_commits_that_are_not_followed_yet_are_counted(fine: Clustered) -> None:
    fine.remote.commit({"x": "1"}, "One")
    fine.remote.commit({"x": "2"}, "Two |`<b>")
    told = glance(fine.remote)
    assert "2 newer commits are not followed yet; the tip is" in told.stdout and '"Two |`<b>"' in told.stdout


def test_a_rewritten_config_branch_is_noticed(fine: Clustered) -> None:
    tree = fine.remote.git("rev-parse", "main^{tree}")
    fine.remote.move("main", fine.remote.git("commit-tree", tree, "-m", "Another beginning"))
    assert "it was rewritten" in glance(fine.remote).stdout


def test_two_machines_with_one_name_are_named(fine: Clustered) -> None:
    report = fine.told["b"]
    for number in range(4):
        fine.push(report.model_copy(update={"instance": ("first", "second")[number % 2], "retry": (str(number),)}))
    told = glance(fine.remote)
    assert "two machines report as b in turns (instances first and second)" in " ".join(told.stdout.split())


GARBAGE: dict[str, tuple[str, str | bytes, str]] = {
    "not YAML": ("report.yaml", "a: [", "it is not YAML"),
    "a list": ("report.yaml", "[1]", "it does not hold a report"),
    "another's": ("report.yaml", "{schema: 1, server: z, instance: i, program: '1'}", "it speaks of z"),
    "fields": ("report.yaml", "{schema: 1, server: 3}", "are not as expected"),
    "binary": ("report.yaml", b"\x00\xff\xfe", "it is not YAML"),
    "deep": ("report.yaml", "[" * 200_000, "it is nested more than 200 levels deep"),
    "a date that is none": ("report.yaml", "server: 2024-99-99", "it is not YAML"),
    "newer": ("report.yaml", "{schema: 99, server: b}", "schema 99 is newer than"),
    "no file": ("other.txt", "x", "it holds no report.yaml"),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_a_report_that_cannot_be_read_is_one_clear_line_and_the_rest_is_shown(fine: Clustered, case: str) -> None:
    file, content, said = GARBAGE[case]
    fine.remote.commit({"report.yaml": None, file: content}, "by hand", "status/b")
    told = glance(fine.remote)
    assert told.exit_code == 0, told.output
    assert said in told.stdout and "status/b" in told.stdout
    assert next(line for line in told.stdout.splitlines() if line.startswith("shop/prod/web"))


BROKEN: dict[str, tuple[str, str | bytes, str]] = {
    "not YAML": ("cluster.yaml", "a: [", "status/cluster is not YAML"),
    "not a state": ("cluster.yaml", "{epoch: 3}", "is not a cluster state"),
    "empty": ("cluster.yaml", "", "does not hold a cluster state"),
    "binary": ("cluster.yaml", b"\x00\xff", "status/cluster is not YAML"),
    "deep": ("cluster.yaml", "[" * 200_000, "status/cluster is nested more than 200 levels deep"),
    "a date that is none": ("cluster.yaml", "epoch: 2024-99-99", "status/cluster is not YAML"),
    "newer": ("cluster.yaml", "schema: 99", "status/cluster has schema 99, this program knows 1: it was written by a newer one"),
    "no file": ("other.txt", "x", "status/cluster holds no cluster.yaml"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_without_a_readable_decision_that_is_said_with_code_2_and_the_reports_are_shown(fine: Clustered, case: str) -> None:
    file, content, said = BROKEN[case]
    fine.remote.commit({"cluster.yaml": None, file: content}, "by hand", "status/cluster")
    told = glance(fine.remote)
    assert told.exit_code == 2, told.output
    assert said in " ".join(told.stdout.split())
    assert next(line for line in told.stdout.splitlines() if line.startswith("b "))


def test_a_deleted_decision_is_said_with_code_2(fine: Clustered) -> None:
    fine.remote.move("status/cluster", None)
    told = glance(fine.remote)
    assert told.exit_code == 2
    assert "status/cluster is not there" in told.stdout


def test_a_decision_edited_by_hand_in_the_middle_of_the_history_hurts_nobody(fine: Clustered) -> None:
    good = fine.remote.show("status/cluster", "cluster.yaml")
    for text in ("a: [", "services: 3", "services: {x: 1}", "[" * 200_000, "a: 2024-99-99", good):
        fine.remote.commit({"cluster.yaml": text}, "by hand", "status/cluster")
    fine.remote.commit({"x": "1"}, f"by hand\n\nGeneration: {'9' * 5000}\nServer: a", "status/cluster")
    document = found(fine.remote)
    assert one(document, "services", "shop/prod/web")["since"] is not None
    assert glance(fine.remote).exit_code == 0


def test_an_inventory_that_is_invalid_costs_only_the_zones(fine: Clustered) -> None:
    bad = fine.remote.commit({"cluster.yaml": "servers: 3"}, "Broken inventory")
    assert fine.story.cluster is not None
    fine.story.cluster = fine.story.cluster.model_copy(update={"config": bad})
    text = fine.remote.show("status/cluster", "cluster.yaml").replace(fine.story.want.revision.sha, bad)
    fine.remote.commit({"cluster.yaml": text}, "a: follows\n\nGeneration: 9\nServer: a", "status/cluster")
    told = glance(fine.remote)
    assert told.exit_code == 0 and "the inventory at" in told.stdout and "is invalid" in told.stdout


def test_newcomers_and_servers_that_never_reported_are_told_apart(fine: Clustered) -> None:
    fine.servers = (*ALL, "d", "e")
    fine.commit(WEB, API, subject="Two more servers")
    fine.decide()
    fine.push(Report(server="d", instance="d", program="1"))
    document = found(fine.remote)
    assert one(document, "servers", "d")["part"] == "newcomer"
    assert one(document, "servers", "e")["part"] == "silent newcomer"
    assert "never reported" in glance(fine.remote).stdout


def test_the_brake_and_what_it_keeps_are_shown(fine: Clustered) -> None:
    fine.commit(subject="Empty")
    fine.decide()
    told = glance(fine.remote)
    assert "brake: " in told.stdout and "allow_removals" in told.stdout
    assert "2 held back" in told.stdout


def test_json_is_whole_and_says_whether_all_is_in_order(fine: Clustered) -> None:
    document = found(fine.remote)
    assert document["in_order"] is True
    assert set(document) == {
        *("in_order", "generation", "epoch", "config", "subject", "decided", "decided_by", "decided_seconds", "tip", "tip_subject"),
        *("tip_seconds", "brake", "servers", "services", "problems"),
    }
    assert [one["server"] for one in document["servers"]] == list(ALL)  # type: ignore[attr-defined]


def test_every_field_of_the_json_is_explained(fine: Clustered) -> None:
    fine.commit(service("web", "x2", servers=ALL), service("api", "y2", servers=("a", "b")), subject="Bump web and api")
    fine.decide()
    fine.report("c", phase="failed")
    fine.decide()
    fine.decide()
    document = found(fine.remote)
    assert one(document, "services", "shop/prod/web")["refused"] and one(document, "services", "shop/prod/api")["rollout"]
    page = (Path(__file__).resolve().parents[2] / "docs/commands.md").read_text()
    explained = {word for code in re.findall(r"`([^`\n]+)`", page) for word in re.split(r"[.\[\]]+", code)}
    assert sorted(fields(document) - explained) == []


def fields(value: object) -> set[str]:
    """Every key of a JSON document, at any depth."""
    if isinstance(value, list):
        return {name for item in value for name in fields(item)}
    if isinstance(value, dict):
        return {*value, *(name for item in value.values() for name in fields(item))}
    return set()


def test_of_many_only_what_is_not_in_order_is_shown_unless_all_is_asked_for(git_remote: Remote) -> None:
    names = tuple(f"s{number:02d}" for number in range(24))
    made = Clustered(git_remote, names)
    made.commit(service("web", servers=names), subject="First")
    made.settle()
    made.commit(service("web", "x2", servers=names), subject="Second")
    made.decide()
    made.report(*(name for name in names if name != "s07"))
    told = glance(git_remote)
    assert "s07" in told.stdout and "s08" not in told.stdout
    assert "waiting for s07" in told.stdout
    assert "23 servers and 0 services in order are not shown" in told.stdout
    assert "24 servers of lon1" in told.stdout
    assert "s08" in glance(git_remote, "--all").stdout


def test_eighty_columns_are_enough(fine: Clustered) -> None:
    made = rolling(fine)
    lines = glance(made.remote, env={"COLUMNS": "80"}).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)


def test_what_people_wrote_cannot_move_the_terminal(fine: Clustered) -> None:
    """FAULTS 60."""
    fine.remote.commit({"x": "1"}, "evil \x1b[2J [red]subject[/red]")
    told = glance(fine.remote)
    assert "\x1b" not in told.stdout and "[red]subject[/red]" in told.stdout


def test_without_a_repository_it_says_what_to_give() -> None:
    told = run("status", "--cluster")
    assert told.exit_code == 1
    assert "give --repo URL" in told.stderr


def test_a_repository_that_does_not_answer_ends_with_2_and_what_to_do(tmp_path: Path) -> None:
    told = glance(tmp_path / "nothing.git")
    assert told.exit_code == 2
    assert "check the URL" in told.stderr


def test_a_repository_without_the_branch_says_which(tmp_path: Path) -> None:
    told = glance(Remote.create(tmp_path / "empty.git"))
    assert told.exit_code == 2
    assert "branch" in told.stderr


def test_all_without_cluster_is_a_wrong_call() -> None:
    assert run("status", "--all").exit_code == 1
