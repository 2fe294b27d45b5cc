"""Looking at listed backends, against real sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from reconciler.effects.pulses import Backend, Pulses
from tests.effects.test_probes import hangs, says, server
from tests.waiting import eventually

UP = Backend(path="/up", timeout=2.0)
SOON = Backend(path="/up", timeout=0.3)
CONNECTS = Backend(path=None, timeout=2.0)


@pytest.fixture
def changes() -> list[int]:
    return []


@pytest.fixture
def pulses(changes: list[int]) -> Iterator[Pulses]:
    looking = Pulses(lambda: changes.append(1), interval=0.02)
    yield looking
    looking.close()


def dead(pulses: Pulses) -> set[str]:
    return {address for address, pulse in pulses.pulses().items() if pulse.dead}


def a_round_passes(pulses: Pulses, address: str) -> None:
    """What the one before found has been told by then. `address` does not answer."""
    before = pulses.pulses()[address].failures
    eventually(lambda: pulses.pulses()[address].failures > before, 30)


def test_what_does_not_answer_dies_and_what_answers_does_not(
    pulses: Pulses, changes: list[int], free_port: Callable[[], int]
) -> None:
    gone = f"127.0.0.1:{free_port()}"
    with server(says("HTTP/1.1 200 OK")) as good, server(says("HTTP/1.1 503 No")) as ill, server(hangs) as hung:
        answers, refuses, waits, keeps = (f"127.0.0.1:{port}" for port in (good, ill, hung, hung))
        pulses.watch({answers: UP, refuses: UP, waits: SOON, gone: CONNECTS})
        eventually(lambda: dead(pulses) == {refuses, waits, gone}, 60)
        assert "503" in pulses.pulses()[refuses].error and "no answer within 0.3 s" in pulses.pulses()[waits].error
        a_round_passes(pulses, gone)
        deaths = len(changes)
        assert deaths > 0
        pulses.watch({answers: UP, keeps: CONNECTS})
        eventually(lambda: dead(pulses) == set(), 60)
        # Looked at in another way, it is the same backend: it was dead, and has come back.
        eventually(lambda: len(changes) == deaths + 1, 30)


def test_it_comes_back_and_is_told_once_for_each_change(pulses: Pulses, changes: list[int], free_port: Callable[[], int]) -> None:
    address = f"127.0.0.1:{free_port()}"
    pulses.watch({address: CONNECTS})
    eventually(lambda: dead(pulses) == {address}, 30)
    for _ in range(4):
        a_round_passes(pulses, address)
    assert changes == [1]


def test_nothing_runs_while_there_is_nothing_to_look_at(pulses: Pulses) -> None:
    before = threading.enumerate()

    def running() -> bool:
        return any(thread.name == "pulses" and thread not in before for thread in threading.enumerate())

    assert not running()
    with server(says("HTTP/1.1 200 OK")) as port:
        pulses.watch({f"127.0.0.1:{port}": UP})
        eventually(running)
        eventually(lambda: pulses.pulses() != {})
        pulses.watch({})
        assert pulses.pulses() == {}
        eventually(lambda: not running())
        pulses.watch({f"127.0.0.1:{port}": UP})
        eventually(lambda: pulses.pulses() != {})
