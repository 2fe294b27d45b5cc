"""`make demo-cluster`, as a newcomer runs it: the story of three servers happens, no request fails, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.cluster.namespaces import NETNS, obstacle, place, processes_of

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(900),
]  # the story has its own deadlines


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the demo's program as make does."""
    command = [sys.executable, str(ROOT / "tools/demo_cluster.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)


def test_three_servers_deploy_change_refuse_roll_back_wait_and_drain_and_lose_no_request(tmp_path: Path) -> None:
    assert obstacle() is None
    name, table = uuid.uuid4().hex[:4], tmp_path / "table.json"
    directory = place(f"recd{name}")
    ran = demo("up", "--name", name, "--json", str(table))
    try:
        assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
        told = json.loads(table.read_text())
        steps = {step["name"]: step for step in told["steps"]}
        assert [(step, found["outcome"], found["slot_before"], found["slot_after"]) for step, found in steps.items()] == [
            ("first deploy", "live on a, b, c", None, "primary"),
            ("change", "live on a, b, c", "primary", "secondary"),
            ("change that fails on b", "refused everywhere", "secondary", "secondary"),
            ("revert of it", "nothing to do", "secondary", "secondary"),
            ("roll back", "live on a, b, c", "secondary", "primary"),
            ("change, c killed", "live on a, b, c", "primary", "secondary"),
            ("c drained", "live on a, b", "secondary", "secondary"),
        ]
        assert told["failed"] == 0
        assert told["sent"] == sum(step["sent"] for step in steps.values()) > 1000
        assert set(steps["change"]["versions"]) == {"1", "2"}
        assert set(steps["change that fails on b"]["versions"]) == {"2"}
        assert steps["change"]["switch_ms"] > 0
        assert "waiting for c to" in ran.stdout, "the status names whom it waits for"
        assert "c: drained, and empty" in ran.stdout
        assert "\x1b[" not in ran.stdout  # colours only on a terminal
        assert processes_of(directory), "the servers go on running until demo-cluster-down"
    finally:
        down = demo("down", "--name", name)
    assert down.returncode == 0, down.stdout + down.stderr
    assert not directory.exists()
    assert processes_of(directory) == []
    assert [path.name for path in NETNS.iterdir() if path.name.startswith(f"recd{name}")] == []
    again = demo("down", "--name", name)
    assert again.stdout == "demo: nothing of a cluster demo is here\n"
