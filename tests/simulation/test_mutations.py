"""The invariants bite: a rule that is wrong in one point is found out within the first seeds of the ordinary run."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.running import first_finding

SEEDS = 200


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_rule_is_found(name: str) -> None:
    assert first_finding(range(SEEDS), MUTATIONS[name]) is not None, f"{SEEDS} seeds, and nobody noticed: {name}"
