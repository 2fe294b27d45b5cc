"""Seeds of a simulated cluster: faults and commits at any moment, invariants after each step, then convergence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.drawing import draw
from tests.simulation.rules import Rules
from tests.simulation.running import first_finding
from tests.simulation.shrinking import outcome, shrink
from tests.simulation.trace import Pass

REPOSITORY = Path(__file__).resolve().parents[2]
RULES = Rules()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 500, 25))
def test_the_invariants_hold_and_every_cluster_converges(first: int) -> None:
    assert first_finding(range(first, first + 25), RULES) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 50])
def test_a_seed_gives_the_same_trace_in_any_process(seed: int) -> None:
    digests = set()
    for hashing in ("0", "4711"):
        command = [sys.executable, "-m", "tests.simulation", "--digest", str(seed)]
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        digests.add(subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, check=True).stdout)
    assert len(digests) == 1


def test_a_failing_run_is_shrunk_to_what_it_takes() -> None:
    """Here everything is rejected whatever happens, so next to nothing is left of the run."""

    def loses_everything(*_: object, **__: object) -> tuple[()]:
        return ()

    rules = Rules(plan=loses_everything)
    scene = next(draw(seed) for seed in range(100) if outcome(draw(seed), rules) is not None)
    first, short = outcome(scene, rules), shrink(scene, rules, most=100)
    again = outcome(short, rules)
    assert first is not None and again is not None and again.invariant == first.invariant
    assert len(short.events) < len(scene.events) // 4
    assert all(event == Pass(event.after, event.server) for event in short.events if isinstance(event, Pass))
