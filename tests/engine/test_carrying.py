"""Carrying out a plan: failures wait longer and longer by themselves, and hold up nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.effects.docker import Docker
from reconciler.effects.git import GitRepository
from reconciler.effects.git_settings import GitSettings
from reconciler.effects.nginx import Nginx
from reconciler.engine.carrying import JOB, LIVE_FIRST, MOST_DELAY, STARTS_AT_ONCE, Carried, Carrier
from reconciler.engine.images import Images
from reconciler.engine.jobs import ThreadJobs
from reconciler.engine.performer import Performer
from reconciler.engine.repository import Repository
from reconciler.model.action import Action, EnsureNetwork, RemoveInstance, StartContainer
from reconciler.render.nginx import render
from tests.engine.clock import HandClock
from tests.waiting import eventually

NETWORK = EnsureNetwork(name="shop_prod_network", subnet="10.1.0.0/24", cause="test")


def start(name: str) -> StartContainer:
    return StartContainer(id=f"{name}-id", name=name, cause="test")


class Ground:
    """A carrier whose Docker does not answer, so that every action fails."""

    def __init__(self, directory: Path) -> None:
        self.clock = HandClock()
        self.jobs = ThreadJobs(lambda: None)
        docker = Docker(f"unix://{directory}/nobody.sock", "a")
        git = Repository(GitRepository(directory / "clone", GitSettings(url=directory.as_uri())), "a")
        performer = Performer(docker, Nginx(directory, docker), lambda when, effect: None, lambda name, words: None)
        self.carrier = Carrier(performer, Images(docker, git, self.jobs), self.clock, self.jobs, render)

    def carry_out(self, *actions: Action, healing: Sequence[str] = ()) -> Carried:
        """A pass: what has ended is taken first, and everything that it began has ended when this returns."""
        carried = self.carrier.carry_out(actions, {}, frozenset(healing))
        eventually(lambda: not self.jobs.working(JOB))
        for name, result in self.jobs.take():
            self.carrier.finished(name, result)
        return carried


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_failure_is_told_and_tried_again_after_a_delay_that_doubles_up_to_a_minute(ground: Ground) -> None:
    delays = []
    for _ in range(9):
        assert ground.carry_out(NETWORK).begun == [NETWORK]
        waiting = ground.carry_out(NETWORK)
        assert waiting.begun == [] and waiting.next_in is not None
        delays.append(waiting.next_in)
        (condition,) = ground.carrier.conditions()
        assert "shop_prod_network" in condition.message and "Docker does not answer" in condition.message
        ground.clock.pass_by(waiting.next_in)
    assert delays == [1, 2, 4, 8, 16, 32, MOST_DELAY, MOST_DELAY, MOST_DELAY]


def test_one_that_fails_holds_up_no_other(ground: Ground) -> None:
    ground.carry_out(NETWORK, start("web"))
    other, third = NETWORK.model_copy(update={"name": "blog_prod_network"}), start("api")
    assert ground.carry_out(NETWORK, start("web"), other, third).begun == [other, third]


def test_what_is_no_longer_planned_is_forgotten(ground: Ground) -> None:
    ground.carry_out(NETWORK, start("web"))
    assert set(ground.carrier.start_errors()) == {"web"}
    ground.carry_out()
    assert ground.carrier.conditions() == () and ground.carrier.start_errors() == {}
    assert ground.carry_out(NETWORK).begun == [NETWORK], "and begins without a delay when it is planned again"


def test_nothing_else_is_begun_for_an_instance_until_the_result_is_taken(ground: Ground) -> None:
    remove = RemoveInstance(name="web", ids=("web-id",), grace=1.0, cause="test")
    begun = ground.carrier.carry_out([remove], {}, frozenset()).begun
    assert begun == [remove]
    eventually(lambda: not ground.jobs.working(JOB))
    assert ground.carrier.carry_out([remove, start("web")], {}, frozenset()).begun == []
    for name, result in ground.jobs.take():
        ground.carrier.finished(name, result)
    assert ground.carrier.carry_out([start("web")], {}, frozenset()).begun == [start("web")]


def test_what_is_live_is_started_before_what_is_not_and_holds_it_up_for_ten_seconds_at_most(ground: Ground) -> None:
    """FAULTS 15: at a boot."""
    live, staged = start("web"), start("web_secondary")
    first = ground.carrier.carry_out([live, staged], {}, frozenset({"web"}))
    assert first.begun == [live] and first.next_in == LIVE_FIRST
    eventually(lambda: not ground.jobs.working(JOB))
    for name, result in ground.jobs.take():
        ground.carrier.finished(name, result)
    assert ground.carry_out(live, staged, healing=["web"]).begun == [staged], "the live one failed, and is tried again later"

    ground.clock.pass_by(MOST_DELAY)
    assert ground.carrier.carry_out([live], {}, frozenset({"web"})).begun == [live]
    ground.clock.pass_by(LIVE_FIRST)
    assert ground.carrier.carry_out([live, staged], {}, frozenset({"web"})).begun == [staged], "it takes too long"


def test_few_are_started_at_once_and_what_ends_makes_room(ground: Ground) -> None:
    starts = [start(f"web{number}") for number in range(STARTS_AT_ONCE + 2)]
    stop = RemoveInstance(name="old", ids=("old-id",), grace=1.0, cause="test")
    first = ground.carrier.carry_out([*starts, stop], {}, frozenset()).begun
    assert first == [*starts[:STARTS_AT_ONCE], stop], "what is taken away waits for no start"
    eventually(lambda: not ground.jobs.working(JOB))
    for name, result in ground.jobs.take():
        ground.carrier.finished(name, result)
    assert ground.carry_out(*starts).begun == starts[STARTS_AT_ONCE:]


def test_bringing_back_is_counted_for_ten_minutes(ground: Ground) -> None:
    for _ in range(3):
        ground.carry_out(start("web"), start("api"), healing=["web"])
        ground.clock.pass_by(70)
    assert ground.carrier.heals() == {"web": 3}
    ground.clock.pass_by(600 - 3 * 70 + 1)
    assert ground.carrier.heals() == {"web": 2}
    ground.clock.pass_by(600)
    assert ground.carrier.heals() == {}


def test_a_fault_of_the_program_itself_is_not_taken_for_one_of_the_action(ground: Ground) -> None:
    ground.carrier.carry_out([start("web")], {}, frozenset())
    with pytest.raises(ZeroDivisionError):
        ground.carrier.finished(f"{JOB}web", ZeroDivisionError())
