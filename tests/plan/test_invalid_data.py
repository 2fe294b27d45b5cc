"""Every directory of tests/data/invalid is a config repository with faults; its expected.txt says what `validate` answers.

The number in a directory's name is the row of FAULTS that it is for: 43 (not readable), 44 and 45 (aliases and merge keys), 46
(duplicate keys), 47 (words that YAML 1.1 takes for numbers), 48 (too deep), 50 (names), 51 (nginx injection), 54 (mounts and
privileges), 58 (port collisions), 60 (terminal escapes).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.policy import Policy
from reconciler.plan.desired import validate
from tests.plan.trees import directory

CASES = sorted(path for path in (Path(__file__).parents[1] / "data/invalid").iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_fault_is_told_at_its_place_in_plain_words(case: Path) -> None:
    found = [str(problem) for problem in validate(directory(case), Policy())]
    assert found == (case / "expected.txt").read_text().splitlines()


def test_no_message_carries_a_secret_or_anything_that_a_terminal_acts_on() -> None:
    """FAULTS 55 and 60."""
    messages = [str(problem) for case in CASES for problem in validate(directory(case), Policy())]
    assert len(messages) > 100
    assert not [message for message in messages if "hunter2" in message or not message.isprintable()]
