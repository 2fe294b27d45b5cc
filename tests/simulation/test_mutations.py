"""The invariants bite: a decision that is wrong in one point is found out within a few seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.world import World

SEEDS = 60
STEPS = 60


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_rule_is_found(name: str) -> None:
    rules, size, invariant = MUTATIONS[name]
    for seed in range(SEEDS):
        try:
            World(seed, size, rules).run(STEPS)
        except AssertionError as error:
            if str(error).startswith(f"{invariant}:"):
                return
    pytest.fail(f"{SEEDS} seeds, and {invariant} did not notice: {name}")
