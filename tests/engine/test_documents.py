"""What anybody can push into a status branch is refused with a word, within bounds, and the servers go on."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from reconciler.engine.documents import DIGITS_MOST, Unreadable, parse
from reconciler.engine.following import read_cluster, write_yaml
from reconciler.engine.reports import read_report
from reconciler.errors import Stalled
from reconciler.model.report import Condition
from tests.company.members import Company
from tests.engine.test_company import all_at, deployed

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 4 * 1024 * 1024
MEMORY = 400 * 1024 * 1024
SECONDS = 60


def doubling(link: str) -> bytes:
    """Thirty lines, each of which is the one before twice: a billion of the first."""
    names = [f"n{number}" for number in range(30)]
    return ("n0: &n0 {x: 1}\n" + "".join(link.format(this=b, before=a) for a, b in pairwise(names))).encode()


HOSTILE = {
    "aliases": (doubling("{this}: &{this} [*{before}, *{before}]\n"), "aliases"),
    "merge keys": (doubling("{this}: &{this} {{<<: [*{before}, *{before}]}}\n"), "aliases"),
    "one backend a hundred thousand times": (b"backends: [&b {server: a}" + b", *b" * 100_000 + b"]", "aliases"),
    "an alias of itself": (b"a: &a [*a]", "aliases"),
    "base 60": (b"generation: 1" + b":1" * 300_000, "digits"),
    "base 60 with a fraction": (b"generation: 1" + b":1" * 400 + b".5", "digits"),
    "a number of four megabytes": (b"schema: 0x" + b"f" * (LARGEST - 20), "digits"),
    "two million values in a line": (b"a: [" + b"a," * (LARGEST // 2 - 10) + b"]", "values"),
    "a million lines": (b"a:\n" + b"- a\n" * (LARGEST // 4 - 2), "values"),
    "half a million keys": (b"".join(b"k%d: 1\n" % number for number in range(400_000)), "values"),
    "a date that is none": (b"a: 2026-02-31", "not YAML"),
    "an object of Python": (b"a: !!python/object/apply:os.system [ls]", "not YAML"),
    "a list as a key": (b"? [a]\n: b\n", "not YAML"),
    "no text": (b"a: \x00\xff\xfe", "not YAML"),
    "half a sequence": (b"a: [1, 2", "not YAML"),
    "two documents": (b"a: 1\n---\nb: 2\n", "not YAML"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_what_is_wrong_with_it(name: str) -> None:
    data, why = HOSTILE[name]
    with pytest.raises(Unreadable, match=why):
        parse(data)
    with pytest.raises(ValueError, match=f"^status/cluster .*{why}"):
        read_cluster(data)
    told = read_report("a", data)
    assert isinstance(told, Condition) and told.message.startswith("status/a: it ") and why in told.message
    assert len(told.message) < 200


@pytest.mark.slow
def test_all_of_them_together_take_bounded_memory_and_time() -> None:
    """In a process whose memory is bounded. It has a hundred megabytes before it begins."""
    code = "from tests.engine.test_documents import HOSTILE, refused\nfor data, _ in HOSTILE.values(): refused(data)\nprint('done')"

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, preexec_fn=bounded, check=False)
    assert done.stdout == "done\n", f"{done.returncode}: {done.stderr[-2000:]}"


def refused(data: bytes) -> None:
    """Raises AssertionError if it is not."""
    assert isinstance(read_report("a", data), Condition)


def test_what_servers_write_is_read_though_it_has_stars_and_much_of_it() -> None:
    said = {"hosts": ["*.shop.example", "&co"], "cause": "a * b", "numbers": [2**63, -1, 1.5, 10**DIGITS_MOST // 10]}
    assert parse(write_yaml(Document(said))) == said
    shared = {"server": "a", "slot": "primary"}
    many = {"backends": [shared] * 5_000}
    assert parse(write_yaml(Document(many))) == many, "the same twice is written twice, not as an alias"


class Document:
    """What `write_yaml` asks of a model."""

    def __init__(self, content: Mapping[str, object]) -> None:
        self._content = content

    def model_dump(self, **_: object) -> Mapping[str, object]:
        return self._content


# The engine


def overwritten(company: Company, ref: str, data: bytes) -> None:
    """Somebody pushes this to a status branch."""
    oid, files = company.host.tips[ref]
    file = "cluster.yaml" if ref == "cluster" else "report.yaml"
    company.host.tips[ref] = (f"{oid[:-4]}beef", {**files, file: data})


@pytest.mark.parametrize("name", ["aliases", "base 60 with a fraction", "two million values in a line"])
def test_with_a_hostile_report_of_another_server_it_goes_on_and_says_so(name: str) -> None:
    company = deployed(2, quiet=60.0)
    company.stop("s02")
    overwritten(company, "s02", HOSTILE[name][0])
    company.run(lambda: "UnreadableReport" in conditions(company, "s01"), 300, "a word about it")
    first = company.members["s01"].docker
    gone = next(container for container in first.containers()[0] if container.labels.role == "application")
    first.remove(gone.id)
    company.run(lambda: any(c.name == gone.name and c.running for c in first.containers()[0]), 120, "healing meanwhile")


@pytest.mark.parametrize("name", ["merge keys", "base 60", "half a sequence"])
def test_a_hostile_cluster_state_is_replaced_by_what_the_servers_know_and_the_next_rollout_goes_through(name: str) -> None:
    company = deployed(2, quiet=60.0)
    before = company.cluster()
    overwritten(company, "cluster", HOSTILE[name][0])
    company.run(lambda: readable(company), 300, "the cluster state anew")
    after = company.cluster()
    assert before is not None and after is not None and after.epoch != before.epoch and before.epoch in after.superseded
    assert any("status/cluster" in line and "rebuilt" in line for member in company.members.values() for line in member.said)
    second = company.commit(all_at("2"), "Bump to 2")
    company.run(lambda: company.done(second), 400, "the second version")


def conditions(company: Company, name: str) -> set[str]:
    report = company.members[name].cycle.report
    return {condition.reason for condition in report.conditions} if report is not None else set()


def readable(company: Company) -> bool:
    try:
        return company.cluster() is not None
    except (ValueError, Stalled):
        return False
