"""The commands that only look, among several servers: from a laptop over HTTP, and on one of the servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.bed import SLOW_START, Bed
from tests.cluster.namespaces import Namespace

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
ROOT = Path(__file__).resolve().parents[2]
BOTH = {"servers_count": 2}


@pytest.fixture
def two(bed: Bed) -> Bed:
    """Two servers that serve version 1."""
    bed.run("a", "b")
    bed.deploy({"web": bed.web("1", **BOTH)}, "First", bed.inventory("a", "b", zones={"a": "lon1", "b": "ams1"}), "a", "b")
    return bed


def reconcile(where: Namespace, *arguments: str, code: int = 0) -> Any:
    """The command's JSON, run inside a namespace."""
    command = where.enter(sys.executable, "-m", "reconciler", *arguments, "--json")
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=60)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def laptop(bed: Bed, *arguments: str, code: int = 0) -> Any:
    """From the client's machine, which is no server and has nothing but a way to the Git host."""
    return reconcile(bed.client.namespace, *arguments, "--repo", bed.git_host.url(bed.remote), code=code)


def on(bed: Bed, server: str, *arguments: str, code: int = 0) -> Any:
    """On a server, with its settings."""
    return reconcile(
        bed.server(server).namespace, "--config", str(bed.server(server).directory / "reconciler.yaml"), *arguments, code=code
    )


def test_a_laptop_sees_a_rollout_wait_for_the_server_whose_daemon_is_dead_by_name(two: Bed) -> None:
    bed = two
    first = bed.remote.tip("main")
    found = laptop(bed, "status", "--cluster", "--detailed-exitcode")
    assert found["in_order"] and found["config"] == first
    assert {(s["server"], s["zone"], s["part"]) for s in found["servers"]} == {("a", "lon1", "member"), ("b", "ams1", "member")}
    (web,) = found["services"]
    assert web["live"] == first and {(p["server"], p["phase"]) for p in web["places"]} == {("a", "live"), ("b", "live")}
    made = {commit.sha: commit.subject for commit in bed.remote.log("status/cluster")}
    assert "shop/prod/web live on a primary, b primary" in made[web["since"]["moment"]["commit"]]

    bed.commit({"web": bed.web("2", **SLOW_START, **BOTH)}, "Bump web to 2")
    bed.eventually(lambda: "shop_prod_web_secondary" in bed.server("b").ids(), 60, "b to stage")
    bed.server("b").kill()
    bed.eventually(lambda: "ready" in {entry.phase for entry in bed.report("a").instances}, 60, "a to vote")
    waiting = laptop(bed, "status", "--cluster", "--detailed-exitcode", code=3)
    (web,) = waiting["services"]
    assert web["live"] == first and web["rollout"]["phase"] == "staging"
    assert any(words.startswith("waiting for b ") for words in web["rollout"]["waits_for"]), web["rollout"]
    page = bed.remote.show("status/cluster", "README.md")
    assert "| lon1 | a | member | " in page and "```mermaid" in page and "staged" in page

    bed.server("b").run()
    bed.settle(bed.remote.tip("main") or "", "a", "b")
    bed.eventually(lambda: laptop(bed, "status", "--cluster")["in_order"], 60, "everything to be in order")
    history = laptop(bed, "history", "web")
    assert history[0]["server"] in ("a", "b") and any(
        "live on a secondary, b secondary" in r for e in history for r in e["reasons"]
    )


def test_plan_and_diff_on_one_server_know_what_the_others_do(two: Bed) -> None:
    bed = two
    bed.eventually(lambda: not on(bed, "a", "plan")["changes"], 30, "nothing to do")
    assert [one["kind"] for one in on(bed, "a", "diff", "--detailed-exitcode")["services"]] == ["same"]
    for name in ("a", "b"):
        bed.server(name).stop()
    before = bed.remote.branches()
    bed.commit({"web": bed.web("2", **BOTH)}, "Bump web to 2")
    planned = on(bed, "a", "plan", "--detailed-exitcode", code=3)
    (web,) = planned["services"]
    assert (
        web["change"] == "toggle" and web["before"] == ["a primary", "b primary"] and web["after"] == ["a secondary", "b secondary"]
    )
    told = [(action["verb"], action["name"]) for action in planned["actions"]]
    second = "shop_prod_web_secondary"
    assert told == [("pull", bed.images.app), ("start", f"{second} with {second}_sidecar")], "only what this server does, each once"
    (web,) = on(bed, "a", "diff", "--detailed-exitcode", code=3)["services"]
    assert [field["field"] for field in web["fields"]] == ["env VERSION"]
    assert {name: sha for name, sha in bed.remote.branches().items() if name != "main"} == {
        name: sha for name, sha in before.items() if name != "main"
    }
