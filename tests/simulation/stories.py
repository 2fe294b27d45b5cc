"""Short courses of events that bring about what random ones bring about too rarely, each from a calm beginning.

A story may say which services there are, and which servers are in the first inventory.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.model.desired import Rolling
from tests.simulation.trace import Commit, Event, Fault, Machine, Pass
from tests.simulation.versions import LINES, Service

Machines = tuple[Machine, ...]
Services = tuple[Service, ...]


@dataclass(frozen=True)
class Story:
    """What happens first. `founders`: the servers of the first inventory."""

    events: tuple[Event, ...]
    services: Services
    founders: tuple[str, ...]


def story(rng: random.Random, machines: Machines, services: Services) -> Story:
    """One of the stories."""
    among = (_stall, _stall, _history, _history, _loss, _growth, _line, _line, _silence, _silence)
    return rng.choice(among if len(machines) > 1 else (_stall, _loss))(rng, machines, services)


def absence(rng: random.Random, machines: Machines) -> list[Event]:
    """Somebody is away while the others go on."""
    away = rng.choice(machines).name
    events: list[Event] = [Pass(rng.choice((1.0, 3.0)), machine.name) for _ in range(7) for machine in machines]
    events.append(Fault(1.0, rng.choice(("away", "lose report", "cut")), away, seconds=260.0))
    events.append(Commit(1.0, "move", rng.randrange(100), rng.randrange(100)))
    others = [machine.name for machine in machines if machine.name != away] or [away]
    events.extend(Pass(10.0 / len(others), name, old=rng.choice((0.0, 15.0))) for _ in range(20) for name in others)
    return events


def _stall(rng: random.Random, machines: Machines, services: Services) -> Story:
    """The nginxes of a server do not listen to what they are told, for as long as it takes to forget about them."""
    names = _names(machines)
    events = [*_rounds(names, 7, 2.0)]
    for _ in range(2):
        events.append(Fault(1.0, "stall", rng.choice(names), seconds=rng.choice((60.0, 150.0))))
        events.append(_good(rng))
        events.extend(_rounds(names, 16, rng.choice((3.0, 6.0))))
    return Story(tuple(events), services, names)


def _history(rng: random.Random, machines: Machines, services: Services) -> Story:
    """Who has missed some generations makes the shared decision anew, while another one, who has served them, is away."""
    names = _names(machines)
    behind, ahead = rng.sample(names, 2)
    others = [name for name in names if name != behind]
    its = Service("cache", pins=(behind,), sidecar=rng.random() < 0.5)
    events = [*_rounds(names, 7, 2.0), Fault(1.0, "away", behind, seconds=25.0)]
    for _ in range(4):
        events.append(rng.choice((Commit(1.0, "update", 1, rng.randrange(4)), Commit(1.0, "suspend", 1))))
        events.extend(_rounds(others, 2, 2.0))
    events.append(Fault(14.0, "away", ahead, seconds=260.0))
    events.append(Fault(0.1, rng.choice(("delete", "rewind", "replace")), ahead, pick=rng.choice((4, 5))))
    rest = [behind, *(name for name in others if name != ahead)]
    for _ in range(2):
        events.append(Commit(1.0, "update", 0, rng.randrange(4)))
        events.extend(_rounds(rest, 9, rng.choice((2.0, 4.0))))
    return Story(tuple(events), (services[0], its), names)


def _loss(rng: random.Random, machines: Machines, services: Services) -> Story:
    """The status branches and every server's own memory are lost, now and then in the middle of a rollout."""
    names = _names(machines)
    events = [*_rounds(names, 7, 2.0)]
    if rng.random() < 0.7:
        events.append(Commit(1.0, "update", rng.randrange(100), rng.choice((0, 4, 5))))
        events.extend(_rounds(names, rng.choice((2, 3, 4, 6)), rng.choice((1.0, 2.0))))
    events.append(Fault(1.0, "loss", names[0]))
    events.extend(_rounds(rng.sample(names, len(names)), 12, rng.choice((0.5, 3.0))))
    return Story(tuple(events), services, names)


def _growth(rng: random.Random, machines: Machines, services: Services) -> Story:
    """One server becomes several, and perhaps one again: with that, services are published and not any more."""
    names = _names(machines)
    alone = tuple(replace(service, count=1, zone=None) for service in services)
    events = [*_rounds(names[:1], 12, 2.0), Commit(1.0, "grow"), *_rounds(names, 16, rng.choice((2.0, 5.0)), rng)]
    if rng.random() < 0.5:
        events.extend((Commit(1.0, "shrink", rng.randrange(100)), *_rounds(names, 16, 4.0, rng)))
    return Story(tuple(events), alone, names[:1])


def _line(rng: random.Random, machines: Machines, services: Services) -> Story:
    """A rolling rollout, in which a switched instance may come to harm; the next one may be of another strategy."""
    names = _names(machines)
    web = replace(services[0], count=len(names), rolling=rng.choice((*LINES, Rolling(soak=5.0), Rolling(soak=5.0))))
    place = sorted(service.name for service in services).index("web")
    events = [*_rounds(names, 7, 2.0), Commit(1.0, "update", place, rng.choice((0, 4, 6, 14, 14, 22)))]
    for _ in range(3):
        events.extend(_rounds(names, rng.choice((4, 6, 9)), rng.choice((3.0, 4.0))))
        if rng.random() < 0.4:
            events.append(Fault(0.1, rng.choice(("kill", "flap")), rng.choice(names), rng.randrange(100), seconds=20.0))
    events.extend(_rounds(names, 8, 4.0))
    if rng.random() < 0.4:
        events.extend((Commit(1.0, "strategy", place, rng.randrange(100)), Commit(1.0, "update", place, rng.choice((0, 4, 6)))))
        events.extend(_rounds(names, 8, 4.0))
    return Story(tuple(events), (web, *services[1:]), names)


def _silence(rng: random.Random, machines: Machines, services: Services) -> Story:
    """Instances do not answer for longer than it takes to pass over them, nobody brings them back, and a rollout begins."""
    names = _names(machines)
    events = [*_rounds(names, 7, 2.0)]
    for _ in range(2):
        hit, seconds = rng.choice(names), rng.choice((25.0, 60.0, 120.0))
        harm = rng.choice(("power", "kill", "pause", "flap"))
        if harm != "power":
            events.append(Fault(0.1, "away", hit, seconds=seconds))
        events.append(Fault(0.1, harm, hit, rng.randrange(100), seconds=seconds))
        events.extend(_rounds([name for name in names if name != hit], rng.choice((3, 6)), 5.0))
        events.append(_good(rng))
        events.extend(_rounds(names, 16, rng.choice((3.0, 6.0)), rng))
    return Story(tuple(events), (replace(services[0], count=len(names)), *services[1:]), names)


def _names(machines: Machines) -> tuple[str, ...]:
    return tuple(machine.name for machine in machines)


def _rounds(names: Iterable[str], count: int, seconds: float, rng: random.Random | None = None) -> Iterable[Event]:
    """Passes of all of them, `count` times, each round in so many seconds."""
    among = tuple(names)
    olds = [rng.choice((0.0, 3.0, 15.0)) for _ in range(count)] if rng is not None else [0.0] * count
    return (Pass(round(seconds / len(among), 2), name, old=old) for old in olds for name in among)


def _good(rng: random.Random) -> Commit:
    return Commit(1.0, "update", rng.randrange(100), rng.randrange(4))
