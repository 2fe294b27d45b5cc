"""The health gate's state machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.desired import Health
from reconciler.model.gate import CLOSED, ProbeResult, advance
from reconciler.model.observed import Gate

GOOD = ProbeResult(kind="success")
BAD = ProbeResult(kind="failure", error="status 500")
ENDED = ProbeResult(kind="ended", error="exited with code 3")
LETTERS = {"+": GOOD, "-": BAD, "x": ENDED}


def run(letters: str, health: Health, step: float = 1.0) -> Gate:
    """The gate after one result per `step` seconds, the first at 0."""
    gate = CLOSED
    for number, letter in enumerate(letters):
        gate = advance(gate, LETTERS[letter], number * step, health)
    return gate


@pytest.mark.parametrize(
    ("letters", "health", "state"),
    [
        ("", Health(), "waiting"),
        ("+", Health(successes=2), "waiting"),
        ("++", Health(successes=2), "passed"),
        ("+-+-+-", Health(successes=2, retries=3), "waiting"),
        ("+-++", Health(successes=2), "passed"),
        ("---", Health(retries=3), "failed"),
        ("--+--", Health(retries=3), "waiting"),
        ("---", Health(retries=3, start_period=1.5), "waiting"),
        ("-----", Health(retries=3, start_period=1.5), "failed"),
        ("---", Health(retries=0), "failed"),
        ("+++", Health(successes=2, min_healthy_time=3), "waiting"),
        ("++++", Health(successes=2, min_healthy_time=3), "passed"),
        ("++-++", Health(successes=2, min_healthy_time=3), "waiting"),
        ("x", Health(retries=15, start_period=60), "failed"),
        ("+x", Health(), "failed"),
        ("++x---", Health(successes=2, retries=1), "passed"),
        ("x+++", Health(), "failed"),
    ],
)
def test_results_in_a_row_decide(letters: str, health: Health, state: str) -> None:
    assert run(letters, health).state == state


def test_success_that_a_failure_interrupted_does_not_count_towards_the_healthy_time() -> None:
    """FAULTS 9: healthy, then dies, then healthy again."""
    health = Health(successes=2, min_healthy_time=2)
    assert run("+++", health).state == "passed"
    assert run("+-++", health).state == "waiting"
    assert run("+-+++", health).state == "passed"


def test_after_is_the_time_from_start_to_the_end() -> None:
    assert run("-++", Health(successes=2), step=0.5).after == 1.0
    assert run("--", Health(retries=2), step=0.5).after == 0.5


def test_the_last_failure_is_named_until_the_gate_is_passed() -> None:
    assert run("-", Health()).error == "status 500"
    assert run("-+", Health(successes=2)).error == "status 500"
    assert run("-++", Health(successes=2)).error is None
    assert run("x", Health()).error == "exited with code 3"


@given(st.text("+-x", max_size=30), st.text("+-x", max_size=10), st.integers(1, 4), st.integers(1, 4))
def test_an_end_is_final(letters: str, more: str, successes: int, retries: int) -> None:
    health = Health(successes=successes, retries=retries)
    gate = run(letters, health)
    if gate.state == "waiting":
        return
    for letter in more:
        assert advance(gate, LETTERS[letter], 1000.0, health) == gate


@given(st.text("+-", max_size=40), st.integers(1, 4), st.integers(1, 4), st.floats(0, 10), st.floats(0, 10))
def test_passed_means_enough_successes_without_a_failure_between(
    letters: str, successes: int, retries: int, healthy_time: float, start_period: float
) -> None:
    health = Health(successes=successes, retries=retries, min_healthy_time=healthy_time, start_period=start_period)
    for length in range(len(letters) + 1):
        gate = run(letters[:length], health)
        if gate.state == "passed":
            row = letters[:length][letters[:length].rfind("-") + 1 :]
            assert len(row) >= successes and len(row) - 1 >= healthy_time
            return
        if gate.state == "failed":
            assert letters[:length].endswith("-" * retries) and length - 1 >= start_period
            return


@pytest.mark.parametrize(
    ("letters", "health", "state"),
    [
        ("++", Health(successes=2), "passed"),
        ("++--+--", Health(successes=2), "passed"),
        ("++---", Health(successes=2), "failed"),
        ("++-", Health(successes=2, retries=1), "failed"),
        ("++x", Health(successes=2), "failed"),
        ("++---+++", Health(successes=2), "failed"),
    ],
)
def test_what_has_to_stay_healthy_is_judged_after_its_gate_too(letters: str, health: Health, state: str) -> None:
    gate = CLOSED
    for number, letter in enumerate(letters):
        gate = advance(gate, LETTERS[letter], float(number), health, stays=True)
    assert gate.state == state


def test_staying_healthy_changes_nothing_of_how_long_the_gate_took() -> None:
    gate = CLOSED
    for number, letter in enumerate("++-++"):
        gate = advance(gate, LETTERS[letter], float(number), Health(successes=2), stays=True)
    assert (gate.state, gate.after, gate.failures, gate.error) == ("passed", 1.0, 0, None)
