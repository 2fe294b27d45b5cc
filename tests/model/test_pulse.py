"""A backend's pulse: it takes several looks to die and more to come back, the more often it has died before."""

from __future__ import annotations

import pytest

from reconciler.model.gate import ProbeResult
from reconciler.model.pulse import BORN, FAILURES, FORGIVEN, MOST_SUCCESSES, SUCCESSES, Pulse, beat

GOOD = ProbeResult(kind="success")
BAD = ProbeResult(kind="failure", error="refused")


def after(looks: str, pulse: Pulse = BORN) -> Pulse:
    """After looks such as `+--`."""
    for look in looks:
        pulse = beat(pulse, GOOD if look == "+" else BAD)
    return pulse


def looks_until_alive(pulse: Pulse) -> int:
    """Good looks that it takes."""
    for count in range(1, 1000):
        pulse = beat(pulse, GOOD)
        if not pulse.dead:
            return count
    raise AssertionError("it never comes back")


@pytest.mark.parametrize(("looks", "dead"), [("", False), ("--", False), ("---", True), ("--+--", False), ("+++---", True)])
def test_it_dies_after_failures_in_a_row(looks: str, dead: bool) -> None:
    assert FAILURES == 3
    assert after(looks).dead is dead


def test_it_comes_back_after_good_looks_in_a_row() -> None:
    assert SUCCESSES == 3
    assert after("---++").dead and not after("---+++").dead
    assert after("---++-++").dead


def test_each_relapse_doubles_what_it_takes_to_come_back_up_to_a_bound() -> None:
    pulse, took = BORN, []
    for _ in range(7):
        pulse = after("---", pulse)
        took.append(looks_until_alive(pulse))
        pulse = after("+" * took[-1], pulse)
    assert took == [3, 6, 12, 24, 48, MOST_SUCCESSES, MOST_SUCCESSES]


def test_a_flapping_one_changes_ever_less_often() -> None:
    """Up for a minute and down for a minute, an hour long: each change is a reload."""
    pulse, changes = BORN, 0
    for look in ("+" * 12 + "-" * 12) * 30:
        before = pulse.dead
        pulse = beat(pulse, GOOD if look == "+" else BAD)
        changes += pulse.dead != before
    assert changes <= 7


def test_its_deaths_are_forgiven_after_a_long_good_while() -> None:
    relapsed = after("---+++---")
    assert looks_until_alive(relapsed) == 6
    forgiven = after("+" * FORGIVEN + "---", relapsed)
    assert looks_until_alive(forgiven) == 3


def test_the_words_stay_the_same_while_it_is_dead() -> None:
    dead = after("---")
    assert beat(dead, ProbeResult(kind="failure", error="no answer")).error == "refused"
    assert beat(after("---+++"), GOOD).error == ""
