"""From a failing scene to a short one that fails in the same way: events are left out, then made plainer (delta debugging).

Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.rules import Rules
from tests.simulation.trace import Event, Pass, Scene
from tests.simulation.world import Broken, World

Fails = Callable[[tuple[Event, ...]], bool]


def outcome(scene: Scene, rules: Rules) -> Broken | None:
    """What a run comes to; None when every invariant held."""
    try:
        World(scene, rules).run()
    except Broken as broken:
        return broken
    return None


def shrink(scene: Scene, rules: Rules, most: int = 1500) -> Scene:
    """The shortest scene found within `most` runs that breaks the same invariant."""
    first = outcome(scene, rules)
    assert first is not None, "a scene that holds cannot be shrunk"
    left = most

    def fails(events: tuple[Event, ...]) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return False
        found = outcome(replace(scene, events=events), rules)
        return found is not None and found.invariant == first.invariant

    return replace(scene, events=_plain(_fewer(scene.events, fails), fails))


def _fewer(events: tuple[Event, ...], fails: Fails) -> tuple[Event, ...]:
    """Leave out ever smaller parts. What is left out passes its time on, as that may be what matters."""
    size = max(1, len(events) // 2)
    while True:
        place = 0
        while place < len(events):
            rest = _without(events, place, size)
            if fails(rest):
                events = rest
            else:
                place += size
        if size == 1:
            return events
        size = max(1, size // 2)


def _without(events: tuple[Event, ...], place: int, size: int) -> tuple[Event, ...]:
    gone, after = events[place : place + size], events[place + size :]
    if after:
        after = (replace(after[0], after=round(after[0].after + sum(event.after for event in gone), 3)), *after[1:])
    return (*events[:place], *after)


def _plain(events: tuple[Event, ...], fails: Fails) -> tuple[Event, ...]:
    """Let less go wrong in the passes that are left."""
    for place, event in enumerate(events):
        while isinstance(event, Pass):
            plainer = next((p for p in event.plainer() if fails((*events[:place], p, *events[place + 1 :]))), None)
            if plainer is None:
                break
            event = plainer
            events = (*events[:place], event, *events[place + 1 :])
    return events
