"""Many seeds of a simulated cluster: faults and commits at any moment, invariants after each step, then convergence."""

from __future__ import annotations

import pytest

from tests.simulation.world import World

STEPS = 60


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_one_server_keeps_the_invariants_and_converges(first: int) -> None:
    for seed in range(first, first + 50):
        World(seed, 1).run(STEPS)


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_two_or_three_servers_keep_the_invariants_and_converge(first: int) -> None:
    for seed in range(first, first + 25):
        World(seed, 2 + seed % 2).run(STEPS)
