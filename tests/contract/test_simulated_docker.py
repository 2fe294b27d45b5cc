"""The simulation's Docker does what the contract's fake does, which the contract holds equal to a real Engine.

Whole runs of the simulation are carried out twice at once: each effect of each server on the simulation's `Boxes`, and by the
product's performer on a `FakeDocker` of its own. After each of them both have the same containers in the same states, and both have
refused the same effects. What a fault does to the one, a person does to the other. What the product never asks for by itself,
as two containers at one address, is asked for at random.
"""

from __future__ import annotations

import random

import pytest

from reconciler.errors import ReconcilerError, Transient
from reconciler.model import effect as e
from reconciler.model.container import ContainerPlan, ContainerRole, Labels, Publish
from reconciler.model.effect import Effect
from reconciler.model.identity import ServiceKey
from tests.contract.docker_twin import Twin, simulated
from tests.simulation.boxes import Boxes
from tests.simulation.daemon import Answer, Daemon
from tests.simulation.drawing import draw
from tests.simulation.trace import Pass
from tests.simulation.world import World

SEEDS = range(16)
RANDOM = range(150)
STEPS = 60
NETWORKS = {"one": "10.213.1.0/24", "two": "10.213.2.0/24"}


class Mirrored(World):
    """A world whose servers have a twin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.twins: dict[str, Twin] = {}
        self.compared = 0
        self.refused = 0

    def perform(self, daemon: Daemon, effect: Effect, event: Pass) -> Answer:
        """Both do it."""
        twin = self.twins.setdefault(daemon.machine, Twin(daemon.boxes))
        twin.mirror()
        assert twin.states() == simulated(daemon.boxes), "a fault was not mirrored"
        of_docker = not isinstance(effect, e.WriteConfig | e.ForgetConfig | e.Switch | e.Restore)
        deaf = self.now < daemon.boxes.deaf_until
        if not of_docker or deaf:
            return super().perform(daemon, effect, event)
        error = twin.perform(effect)
        answer = super().perform(daemon, effect, event)
        self.compared += 1
        self.refused += error is not None
        context = f"{effect} at {self.now}: the fake says {error}, the simulation {answer}"
        assert (error is not None) == isinstance(answer, Exception), context
        if isinstance(effect, e.Start):
            twin.mirror()  # an nginx that does not take its configuration has ended at once
        assert twin.states() == simulated(daemon.boxes), context
        return answer


@pytest.mark.parametrize("seed", SEEDS)
def test_every_effect_of_a_run_does_to_the_simulated_docker_what_it_does_to_the_fake(seed: int) -> None:
    world = Mirrored(draw(seed))
    world.run()
    assert world.compared > 5


# Anything, in any order


def labels(name: str, spec: str, role: ContainerRole = "application") -> Labels:
    return Labels(server="a", role=role, service=ServiceKey("shop", "prod", name), slot="primary", spec=spec)


def plans(spec: str) -> list[ContainerPlan]:
    """What gets in each other's way: an address, a published port, a namespace."""
    port = Publish(host_address="10.0.0.1", host_port=8000, container_port=80)
    return [
        ContainerPlan(name="x", image="x", labels=labels("x", spec), network="one", address="10.213.1.11"),
        ContainerPlan(name="y", image="y", labels=labels("y", spec), network="one", address="10.213.1.11", publish=(port,)),
        ContainerPlan(name="z", image="z", labels=labels("z", spec), network="two", address="10.213.2.11", publish=(port,)),
        ContainerPlan(name="side", image="n", labels=labels("s", spec), network="two", address="10.213.2.12"),
        ContainerPlan(name="inner", image="s", labels=labels("s2", spec), namespace_of="side"),
        ContainerPlan(name="host", image="n", labels=labels("h", spec), host_network=True),
    ]


def asked(rng: random.Random) -> Effect:
    """Any effect."""
    names = ("x", "y", "z", "side", "inner", "host")
    name, network = rng.choice(names), rng.choice(list(NETWORKS))
    return rng.choice(
        (
            *(e.Create(plan=rng.choice(plans(rng.choice("12")))),) * 4,
            *(e.Start(container=name),) * 4,
            e.Unpause(container=name),
            e.Stop(container=name, name=name, grace=1.0),
            e.Signal(container=name, signal=None),
            *(e.Remove(container=name),) * 2,
            *(e.CreateNetwork(name=network, subnet=NETWORKS[network]),) * 2,
            e.RemoveNetwork(name=network),
        )
    )


def strikes(rng: random.Random, boxes: Boxes) -> None:
    """Something happens to a container by itself."""
    box = rng.choice(list(boxes.boxes.values()))
    if rng.random() < 0.5:
        boxes.ends(box, 137)
    elif box.status == "running":
        box.status = "paused"


def test_effects_at_random_do_the_same_to_both_and_are_refused_by_both() -> None:
    refused: set[str] = set()
    for seed in RANDOM:
        rng = random.Random(seed)
        boxes = Boxes("a", "a")
        twin = Twin(boxes)
        done: list[str] = []
        for step in range(STEPS):
            if boxes.boxes and rng.random() < 0.15:
                strikes(rng, boxes)
                twin.mirror()
            effect = asked(rng)
            error, answer = twin.perform(effect), performed(boxes, effect, step)
            done.append(f"{effect.kind} {getattr(effect, 'container', '')}: {error} / {answer}")
            assert (error is None) == (answer is None), (seed, done[-1], done)
            assert twin.states() == simulated(boxes), (seed, done[-1], done)
            refused |= {effect.kind} if error is not None else set()
    assert refused >= {"create", "start", "remove", "remove_network"}, "else nothing was compared but what goes well"


def performed(boxes: Boxes, effect: Effect, step: int) -> ReconcilerError | None:
    """On the simulation's Docker."""
    try:
        boxes.perform(effect, float(step), old=0.0, load=0.0)
    except Transient as error:
        return error
    return None
