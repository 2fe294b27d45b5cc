"""Faults on request: what the variables mean. That they kill is shown by tests/integration/test_kill.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.engine.faults import KILL_AT, RECORD, requested
from reconciler.errors import Invalid


def test_nothing_is_asked_for_without_the_variables() -> None:
    assert requested({}) is None and requested({KILL_AT: "", RECORD: ""}) is None


@pytest.mark.parametrize("text", ["7", "after", "after:", "after:0", "during:3", "after:-1", "before: 3", "after:~", "after:~("])
def test_a_point_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="after:7"):
        requested({KILL_AT: text})


def test_the_process_dies_at_the_point_and_the_record_ends_there(tmp_path: Path) -> None:
    program = (
        "import os; from reconciler.engine.faults import requested; faults = requested(os.environ)\n"
        "for what in 'abc':\n"
        "    with faults.around(what): print(what, flush=True)\n"
    )
    second = "before 1 a|after 1 a|before 2 b"
    for point, printed, steps in (
        ("before:2", "a", second),
        ("before:~[bc]", "a", second),
        ("after:1", "a", "before 1 a|after 1 a"),
    ):
        record = tmp_path / point
        environment = {**os.environ, KILL_AT: point, RECORD: str(record)}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == -signal.SIGKILL
        assert done.stdout.split() == [printed] and record.read_text().splitlines() == steps.split("|")
