"""When a member may propose a decision that anybody could make."""

from __future__ import annotations

import pytest

from reconciler.engine.turns import Pace, Turns, fast_poll, rank
from tests.engine.clock import HandClock

MEMBERS = ("a", "b", "c")


def test_who_decided_last_is_first_and_the_others_follow_by_name() -> None:
    assert [rank(name, MEMBERS, "b") for name in MEMBERS] == [2, 0, 1]
    assert [rank(name, MEMBERS, None) for name in MEMBERS] == [0, 1, 2]


def test_the_first_one_goes_ahead_at_once() -> None:
    clock = HandClock()
    assert Turns(clock, Pace()).wait("tip", "all", rank=0, members=3, asked=clock.monotonic()) == 0.0


def test_another_one_waits_for_its_turn_and_looks_before_it_goes_ahead() -> None:
    """What it knows is from before its turn, and who was first may have decided since."""
    clock, pace = HandClock(), Pace()
    turns, asked = Turns(clock, pace), clock.monotonic()
    wait = turns.wait("tip", "all", rank=1, members=3, asked=asked)
    assert wait == pytest.approx(pace.turn(3))
    clock.pass_by(pace.turn(3))
    assert turns.wait("tip", "all", rank=1, members=3, asked=asked) is None
    assert turns.wait("tip", "all", rank=1, members=3, asked=clock.monotonic()) == 0.0


def test_a_decision_that_has_landed_begins_all_turns_anew() -> None:
    clock, pace = HandClock(), Pace()
    turns = Turns(clock, pace)
    turns.wait("tip", "all", rank=1, members=3, asked=0.0)
    clock.pass_by(pace.turn(3))
    assert turns.wait("another tip", "all", rank=1, members=3, asked=clock.monotonic()) == pytest.approx(pace.turn(3))


def test_what_a_tag_is_waits_for_the_votes_and_a_pace_that_changes_does_not_begin_the_wait_anew() -> None:
    clock, pace = HandClock(), Pace()
    turns = Turns(clock, pace)
    wait = turns.wait("tip", "images", rank=0, members=3, asked=clock.monotonic())
    assert wait == pytest.approx(pace.hearing(3))
    clock.pass_by(4.0)
    pace.pushed(3.0)
    wait = turns.wait("tip", "images", rank=0, members=3, asked=clock.monotonic())
    assert wait == pytest.approx(pace.hearing(3) - 4.0)
    assert turns.wait("tip", "all", rank=0, members=3, asked=clock.monotonic()) == 0.0


def test_a_first_one_that_comes_late_looks_too() -> None:
    clock, pace = HandClock(), Pace()
    asked = clock.monotonic()
    clock.pass_by(pace.turn(3) + 1)
    assert Turns(clock, pace).wait("tip", "all", rank=0, members=3, asked=asked) is None


def test_turns_are_as_long_as_the_last_polls_and_pushes_took_within_limits() -> None:
    quick, slow, hung = Pace(), Pace(), Pace()
    quick.polled(0.1)
    slow.polled(5.0)
    slow.pushed(8.0)
    hung.polled(600.0)
    assert quick.turn(3) == fast_poll(3) + 2.0
    assert slow.turn(3) == fast_poll(3) + 5.0 + 5.0 + 8.0
    assert hung.turn(3) == fast_poll(3) + 30.0
    for _ in range(5):
        slow.polled(0.1)
        slow.pushed(0.1)
    assert slow.turn(3) == quick.turn(3)
