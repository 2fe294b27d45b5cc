"""After the programs were put back to an older version nobody decides; everybody says why, and the way out that it names works."""

from __future__ import annotations

import pytest

from reconciler.engine.copies import CLUSTER_FILE
from reconciler.engine.newer import GO_BACK, no_decider
from reconciler.model.cluster import ClusterState, Decider
from reconciler.model.report import Report
from tests.company.members import Company
from tests.engine.test_company import all_at, deployed, updated

NEW, OLD = "0.2.0", "0.1.0"
CLUSTER = ClusterState(
    epoch="e", generation=5, decided_by=Decider(server="b", program="0.10.0"), members=("a", "b"), config="c" * 40
)


def reports(**programs: str) -> dict[str, Report]:
    return {name: Report(server=name, instance=name, program=program) for name, program in programs.items()}


@pytest.mark.parametrize(
    ("program", "others"),
    [("0.10.0", {"b": "0.1.0"}), ("0.11.0", {}), ("0.9.0", {"b": "0.10.0"}), ("0.9.0", {"a": "0.9.0", "b": "0.10.1"})],
    ids=["as new", "newer", "another is as new", "another is newer"],
)
def test_while_a_member_is_as_new_as_the_last_decider_somebody_decides(program: str, others: dict[str, str]) -> None:
    assert no_decider("a", program, CLUSTER, reports(**others)) is None


def test_that_a_newcomer_is_older_is_no_matter_of_the_members() -> None:
    assert no_decider("c", "0.1.0", CLUSTER, {}) is None


def test_when_none_is_it_says_who_decided_with_what_and_what_to_do() -> None:
    found = no_decider("a", "0.9.0", CLUSTER, reports(a="0.10.0", b="0.9.9", c="0.11.0"))
    assert found is not None and found.reason == "OlderProgram"
    for words in ("b decided last, with program 0.10.0", "here 0.9.0", "Upgrade a member to 0.10.0 or newer", GO_BACK):
        assert words in str(found)


@pytest.fixture
def company() -> Company:
    """Two servers whose second slots are live, by a newer program's decision."""
    made = deployed(2, quiet=60.0)
    for name in made.names:
        made.install(name, NEW)
    updated(made, trailing=60.0)
    cluster = made.cluster()
    assert cluster is not None and cluster.decided_by.program == NEW
    return made


def put_back(company: Company) -> None:
    for name in company.names:
        company.install(name, OLD)


def told(company: Company, name: str) -> list[str]:
    """Reasons of the conditions in a server's report on the host."""
    report = company.report(name)
    return [condition.reason for condition in report.conditions] if report is not None else []


def writes(company: Company) -> list[int]:
    return [member.docker.writes for member in company.members.values()]


def newer_schema(company: Company) -> None:
    """As if the newer program wrote another schema, into the branch and into its copies."""
    oid, files = company.host.tips["cluster"]
    text = files["cluster.yaml"].replace(b"schema: 1\n", b"schema: 2\n", 1)
    assert text != files["cluster.yaml"]
    company.host.tips["cluster"] = (f"{oid[:-4]}beef", {**files, "cluster.yaml": text})
    for member in company.members.values():
        copy = member.journal.read(CLUSTER_FILE)
        assert copy is not None and b'"schema": 1' in copy
        member.journal.write(CLUSTER_FILE, copy.replace(b'"schema": 1', b'"schema": 2', 1))


@pytest.mark.parametrize("reason", ["OlderProgram", "NewerSchema"])
def test_after_all_were_put_back_each_says_so_once_nothing_is_decided_or_touched_and_the_recipe_ends_it(
    company: Company, reason: str
) -> None:
    """FAULTS 7. The recipe is docs/operations.md, "Go back to an older program"."""
    if reason == "NewerSchema":
        newer_schema(company)
    put_back(company)
    company.run(lambda: all(reason in told(company, name) for name in company.names), 300, "a word in each report")
    before, tip, pushes = writes(company), company.host.tips["cluster"], len(company.host.pushes)
    third = company.commit(all_at("3"), "Bump to 3")
    company.rest(600)
    assert company.host.tips["cluster"] == tip and writes(company) == before
    assert len(company.host.pushes) - pushes <= 2 * len(company.names), company.story(pushes)
    for member in company.members.values():
        outcome = member.cycle.step()
        assert outcome.problem is not None
        assert (GO_BACK if reason == "OlderProgram" else "upgrade this server's program") in str(outcome.problem)

    for name in company.names:
        company.stop(name)
    del company.host.tips["cluster"]
    for name in company.names:
        company.members[name].journal.remove(CLUSTER_FILE)
        company.install(name, OLD)
    company.run(lambda: company.done(third), 600, "the third version")
    cluster = company.cluster()
    assert cluster is not None and cluster.decided_by.program == OLD
    company.rest(300)
    assert all(reason not in told(company, name) for name in company.names)


def test_one_that_is_as_new_goes_on_deciding_for_the_others(company: Company) -> None:
    company.install("s01", OLD)
    assert updated(company, version="3", trailing=60.0)
    assert all("OlderProgram" not in told(company, name) for name in company.names)
    cluster = company.cluster()
    assert cluster is not None and (cluster.decided_by.server, cluster.decided_by.program) == ("s02", NEW)


def test_made_anew_from_what_runs_nothing_is_restarted(company: Company) -> None:
    put_back(company)
    for name in company.names:
        company.stop(name)
    before = {name: member.docker.containers()[0] for name, member in company.members.items()}
    del company.host.tips["cluster"]
    for name in company.names:
        company.members[name].journal.remove(CLUSTER_FILE)
        company.install(name, OLD)
    company.run(lambda: company.host.tips.get("cluster") is not None, 300, "a decision")
    company.rest(300)
    for name, member in company.members.items():
        assert {c.id for c in member.docker.containers()[0]} == {c.id for c in before[name]}, company.story()
