"""From a seed to a scene: how many servers, which services, which events with which luck."""

from __future__ import annotations

import random
from dataclasses import replace

from tests.simulation.stories import absence, story
from tests.simulation.trace import Commit, Event, Fault, Machine, Pass, Push, Scene
from tests.simulation.versions import LINES, Service

SIZES = (2,) * 8 + (3,) * 6 + (1,) * 3 + (4, 5, 6)
RATES = (1.0, 1.0, 0.8, 1.25)
COMMITS = (
    *("update",) * 9,
    *("revert", "remove", "add", "place", "pin", "replicas", "public", "suspend", "secret", "all", "all"),
    *("inventory", "inventory", "rewrite"),
)
FAULTS = (
    *("kill", "kill", "remove", "pause", "flap", "sidecar", "edge", "refuse", "docker", "docker", "cut", "cut", "remote"),
    *("away", "away", "power", "state", "program", "lose report", "rewind report", "delete", "rewind", "replace", "clone"),
)
PUSHES: tuple[Push, ...] = (*("lands",) * 14, "lost", "lost", "unheard", "unheard", "slow")


def draw(seed: int, *, steps: int = 60) -> Scene:
    """The scene of a seed. `steps`: events per run; larger clusters have more of them."""
    rng = random.Random(seed)
    size = rng.choice(SIZES) if seed % 50 else 12
    zones = rng.choice((1, 1, 2)) if size > 2 else 1
    machines = tuple(
        Machine(name, f"zone{number % zones + 1}", rng.choice(RATES)) for number, name in enumerate("abcdefghijkl"[:size])
    )
    # A few kinds of trouble in each run, so that each of them is met in calm as well as in company.
    troubles = rng.sample(FAULTS, 5)
    calm = rng.random() < 0.25
    events: list[Event] = []
    for _ in range(steps + 4 * size):
        after = rng.choice((0.2, 0.5, 1.0, 2.0, 5.0, 12.0)) / max(1.0, size / 4)
        roll = rng.random()
        if roll < 0.08:
            events.append(Commit(after, rng.choice(COMMITS), rng.randrange(100), rng.randrange(100)))
        elif roll < 0.15 and not calm:
            seconds = rng.choice((3.0, 20.0, 60.0, 200.0))
            events.append(Fault(after, rng.choice(troubles), rng.choice(machines).name, rng.randrange(100), seconds))
        else:
            events.append(_pass(rng, after, rng.choice(machines).name, calm))
    if seed % 4 == 1:
        events = [*absence(rng, machines), *events[: len(events) // 3]]
    services = _services(rng, machines)
    if seed % 4 == 0 and size <= 6:
        # A stream of its own: a new story changes these seeds alone.
        told = story(random.Random(f"story of {seed}"), machines, services)
        events = [*told.events, *events[: len(events) // 3]]
        return Scene(seed, machines, told.services, tuple(events), founders=told.founders, modes=True)
    return Scene(seed, machines, services, tuple(events))


def _pass(rng: random.Random, after: float, server: str, calm: bool) -> Pass:
    old = rng.choice((0.0, 0.0, 3.0, 15.0, 60.0))
    made = Pass(after, server, old=old)
    if calm:
        return made
    if rng.random() < 0.1:
        made = replace(made, fetch=False)
    made = replace(made, push=rng.choice(PUSHES), seconds=rng.choice((2.0, 10.0, 40.0, 120.0)), pull=rng.random() > 0.15)
    if rng.random() < 0.1:
        made = replace(made, load=rng.choice((3.0, 20.0)))
    if rng.random() < 0.2:
        cut = rng.choice(("dies", "dies", "freezes", "fails", "doubtful", "lingers"))
        made = replace(made, at=rng.choice((0, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 10, 12)), cut=cut)  # type: ignore[arg-type]
    return made


def _services(rng: random.Random, machines: tuple[Machine, ...]) -> tuple[Service, ...]:
    size = len(machines)
    zone = rng.choice((None, machines[-1].zone))
    web = Service("web", count=size, public=True, replicas=rng.choice((1, 1, 2)), rolling=rng.choice((None, None, *LINES)))
    api = Service("api", count=rng.randint(1, min(3, size)), zone=zone if rng.random() < 0.3 else None, secrets=True)
    cache = Service("cache", sidecar=False)
    store = Service("store", sidecar=False, recreate=True, rollback=rng.random() < 0.5)
    site = Service("site", project="blog", count=rng.randint(1, min(2, size)), public=True, sidecar=False)
    some = rng.sample((api, cache, store, site), rng.randint(0, 3 if size < 6 else 1))
    zones = [m.zone for m in machines]
    return tuple(replace(s, count=min(s.count, zones.count(s.zone))) if s.zone else s for s in (web, *some))
