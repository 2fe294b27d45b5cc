"""The budget of pushes: a burst, then the rate that hosts recommend; failures wait longer and longer."""

from __future__ import annotations

import pytest

from reconciler.engine.pushes import BACKOFF_MOST, Pushes
from tests.engine.clock import HandClock


def test_after_a_burst_of_a_minutes_pushes_one_comes_every_ten_seconds() -> None:
    clock = HandClock()
    pushes = Pushes(clock, 6)
    for _ in range(6):
        assert pushes.wait(urgent=False) == 0.0
        pushes.started()
    assert pushes.wait(urgent=False) == pytest.approx(10.0)
    clock.pass_by(9)
    assert pushes.wait(urgent=False) == pytest.approx(1.0)
    clock.pass_by(1.001)
    assert pushes.wait(urgent=False) == 0.0


def test_in_an_hour_there_are_no_more_than_the_rate_and_one_burst() -> None:
    clock = HandClock()
    pushes = Pushes(clock, 6)
    for _ in range(3600):
        if pushes.wait(urgent=False) == 0.0:
            pushes.started()
            pushes.succeeded()
        clock.pass_by(1)
    assert 360 <= pushes.count <= 366


def test_what_somebody_waits_for_heeds_no_budget() -> None:
    pushes = Pushes(HandClock(), 1)
    pushes.started()
    assert pushes.wait(urgent=False) > 0 and pushes.wait(urgent=True) == 0.0


def test_failures_hold_back_urgent_ones_too_longer_each_time_and_a_success_ends_that() -> None:
    clock = HandClock()
    pushes = Pushes(clock, 60)
    waits = []
    for _ in range(12):
        pushes.failed("the host says no")
        waits.append(pushes.wait(urgent=True))
        assert pushes.error == "the host says no"
        clock.pass_by(waits[-1] + 0.01)
        assert pushes.wait(urgent=True) == 0.0
    assert 1.0 < waits[0] < 3.0 and waits[4] > 4 * waits[0]
    assert max(waits) <= BACKOFF_MOST * 1.25
    pushes.succeeded()
    assert pushes.error is None and pushes.wait(urgent=True) == 0.0
