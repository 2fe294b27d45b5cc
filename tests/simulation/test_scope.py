"""Two servers, one toggle: the program dies at every moment, and at pairs of moments.

All of the pairs: `make simulate SCOPE=small`.
"""

from __future__ import annotations

import pytest

from tests.simulation.scope import pairs, singles, toggle

EVERY = 6


def test_a_toggle_survives_the_end_of_the_program_at_every_moment() -> None:
    counted = [toggle(deaths) for deaths in singles()]
    assert len(counted) > 40


@pytest.mark.slow
def test_a_toggle_survives_two_ends_of_the_program() -> None:
    """Every sixth pair of them."""
    chosen = [deaths for first in range(toggle(frozenset())) for deaths in pairs(first)][::EVERY]
    assert len(chosen) > 200
    for deaths in chosen:
        toggle(deaths)
