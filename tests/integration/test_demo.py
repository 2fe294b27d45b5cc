"""`make demo`, as a newcomer runs it: the story happens, no request fails, and nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Scope
from tests.integration.images import Images

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]  # the story has its own deadlines


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the demo's program as make does."""
    command = [sys.executable, str(ROOT / "tools/demo.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540, stdin=subprocess.DEVNULL)


def columns(text: str) -> list[str]:
    """The headings of the table."""
    heading = next((line for line in text.splitlines() if line.split()[:2] == ["step", "commit"]), "")
    return re.split(r" {2,}", heading.strip()) if heading else []


def test_the_demo_deploys_changes_refuses_and_rolls_back_and_loses_no_request(images: Images, scope: Scope, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    directory = tmp_path / "demo"
    ran = demo("up", "--name", scope.name, "--directory", str(directory), "--json", str(table))
    try:
        assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
        told = json.loads(table.read_text())
        steps = {step["name"]: step for step in told["steps"]}
        slots = [(name, step["outcome"], step["slot_before"], step["slot_after"]) for name, step in steps.items()]
        assert slots == [
            ("first deploy", "live", None, "primary"),
            ("change", "live", "primary", "secondary"),
            ("broken change", "refused", "secondary", "secondary"),
            ("revert of it", "nothing to do", "secondary", "secondary"),
            ("roll back", "live", "secondary", "primary"),
        ]
        assert told["failed"] == 0, told["errors"]
        assert told["sent"] == sum(step["sent"] for step in steps.values())
        assert min(count["sent"] for count in told["kinds"].values()) > 0
        assert set(told["kinds"]) == {"post", "get", "mesh_web", "mesh_redis"}
        assert set(steps["change"]["versions"]) == {"1", "2"}
        assert set(steps["broken change"]["versions"]) == {"2"}
        assert steps["change"]["switch_ms"] > 0
        assert steps["roll back"]["switch_ms"] > 0
        assert f"demo: {told['sent']} requests, 0 failed" in ran.stdout
        readme = (ROOT / "README.md").read_text()
        assert columns(ran.stdout) == columns(readme) != []
        assert "\x1b[" not in ran.stdout  # colours only on a terminal
        assert scope.containers(), "the shop goes on running until demo-down"
    finally:
        down = demo("down", "--name", scope.name, "--directory", str(directory))
    assert down.returncode == 0, down.stdout + down.stderr
    assert f"the volume {scope.name}_prod_redis_data" in down.stdout
    assert scope.containers() == []
    assert not directory.exists()
    again = demo("down", "--name", scope.name, "--directory", str(directory))
    assert again.stdout == "demo: nothing of a demo is here\n"
