"""A server whose program is older than the one that decided: what it cannot read is waited for, never guessed (FAULTS 7)."""

from __future__ import annotations

import json

import pytest

from reconciler.engine.copies import CLUSTER_FILE, load_copy
from reconciler.engine.documents import parse
from reconciler.model.cluster import SCHEMA
from reconciler.model.report import Report
from tests.company.members import Company
from tests.company.remote import CLUSTER
from tests.company.standins import MemoryJournal
from tests.engine.test_company import all_at, deployed


def by_a_newer_program(company: Company, schema: int = SCHEMA + 1) -> None:
    """Somebody's newer program has decided."""
    oid, files = company.host.tips[CLUSTER]
    text = files["cluster.yaml"].decode()
    assert text.startswith(f"schema: {SCHEMA}\n")
    company.host.tips[CLUSTER] = (f"newer{oid[5:]}", {**files, "cluster.yaml": text.replace("1", str(schema), 1).encode()})


def reasons(report: Report | None) -> dict[str, str]:
    assert report is not None
    return {condition.reason: condition.message for condition in report.conditions}


@pytest.mark.parametrize("count", [1, 2])
def test_a_decision_with_a_newer_schema_is_told_of_and_nothing_is_pushed_over_it(count: int) -> None:
    company = deployed(count)
    before, running = len(company.host.pushes), {n: m.docker.containers()[0] for n, m in company.members.items()}
    by_a_newer_program(company)
    tip = company.host.tips[CLUSTER]
    company.commit(all_at("2"), "Bump to 2")
    company.rest(600.0)
    for name, each in company.members.items():
        assert reasons(company.report(name))["NewerSchema"].endswith("upgrade this server's program")
        assert [line for line in each.said if "NewerSchema" in line] == []
        assert each.docker.containers()[0] == running[name]
    assert company.host.tips[CLUSTER] == tip
    pushes = company.pushes_since(before)
    assert {push.asked for push in pushes} == {(name,) for name in company.names} and len(pushes) == count, company.story(before)


def test_it_goes_on_once_the_decision_can_be_read_again() -> None:
    company = deployed(2)
    tip = company.host.tips[CLUSTER]
    by_a_newer_program(company)
    company.rest(120.0)
    company.host.tips[CLUSTER] = tip
    second = company.commit(all_at("2"), "Bump to 2")
    company.run(lambda: company.done(second), 300, "the update")
    company.run(lambda: all("NewerSchema" not in reasons(company.report(name)) for name in company.names), 120, "the reports")


def test_a_decision_names_the_schema_of_the_program_that_made_it() -> None:
    """Read as an older one, it must not go on under the older one's name: an older program would take it for its own."""
    company = deployed(2)
    oid, files = company.host.tips[CLUSTER]
    older = files["cluster.yaml"].decode().replace(f"schema: {SCHEMA}\n", f"schema: {SCHEMA - 1}\n", 1)
    company.host.tips[CLUSTER] = (f"older{oid[5:]}", {**files, "cluster.yaml": older.encode()})
    second = company.commit(all_at("2"), "Bump to 2")
    company.run(lambda: company.done(second), 300, "the update")
    document = parse(company.host.text(CLUSTER, "cluster.yaml") or b"")
    assert isinstance(document, dict) and document["schema"] == SCHEMA


def test_a_copy_that_a_newer_program_has_kept_is_not_guessed_at() -> None:
    """The program was put back to an older version."""
    company = deployed(1)
    cluster = company.cluster()
    assert cluster is not None
    said: list[str] = []
    journal = MemoryJournal()
    kept = {"based_on": "x", "reasons": [], "cluster": {**cluster.model_dump(mode="json", by_alias=True), "schema": SCHEMA + 1}}
    journal.write(CLUSTER_FILE, json.dumps(kept).encode())
    assert load_copy(journal, said.append) is None
    assert said == [f"cluster.json in the state directory has schema {SCHEMA + 1}, a newer program's; waiting for the remote's"]
