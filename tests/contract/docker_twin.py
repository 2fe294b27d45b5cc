"""A FakeDocker beside the simulation's Docker of a server: both are given the same effects and compared."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.engine.performer import Performer
from reconciler.errors import ReconcilerError
from reconciler.model import effect as e
from reconciler.model.effect import Effect, SwitchTarget
from reconciler.model.observed import NginxState
from reconciler.model.switched import Switched
from tests.fakes.docker import FakeDocker
from tests.fakes.docker_engine import Engine, Program, Stored
from tests.fakes.docker_things import digest
from tests.simulation.boxes import Boxes

DOWN = ("created", "exited")


class NoNginx:
    """What Docker has to do with an nginx is its container alone; the rest is another contract's."""

    def write(self, name: str, text: str) -> None: ...
    def forget(self, name: str) -> None: ...
    def read(self, name: str) -> str | None:
        return None

    def state(self, name: str, pid: int, port: int) -> NginxState:
        raise AssertionError("not asked here")

    def complaint(self, name: str) -> str | None:
        return None

    def version(self, name: str) -> tuple[int, int, int]:
        return (1, 31, 3)

    def switch(self, targets: Sequence[tuple[SwitchTarget, int]]) -> Sequence[Switched]:
        raise AssertionError("not switched here")

    def connections(self, pid: int, port: int) -> int:
        return 0


class Twin:
    """A server's FakeDocker beside its Boxes."""

    def __init__(self, boxes: Boxes) -> None:
        self.boxes = boxes
        self.engine = Engine(program=lambda box: Program(on_signal=0), seed=boxes.machine)
        self.docker = FakeDocker(self.engine, boxes.server)
        self.performer = Performer(self.docker, NoNginx(), lambda when, effect: None, lambda name, words: None)

    def mirror(self) -> None:
        """What a fault, or a process by itself, did to a container is done to its twin."""
        for twin in list(self.engine.boxes.values()):
            box = self.boxes.named(twin.name)
            if box is None:
                if twin.up:
                    self.engine.exited(twin, 137)
                self.engine.forget(twin)
            elif box.status == "paused":
                self.engine.pause(twin, frozen=True)
            elif box.status in ("exited", "restarting") and twin.up:
                self.engine.exited(twin, box.exit_code or 0)
            elif box.status == "running" and not twin.up:
                self.engine.start(twin)
            elif box.status == "running":
                self.engine.pause(twin, frozen=False)

    def perform(self, effect: Effect) -> ReconcilerError | None:
        """The same effect. Returns what it was refused with."""
        if isinstance(effect, e.Create):
            self.engine.images.setdefault(effect.plan.image, Stored(digest(effect.plan.image), effect.plan.image))
        try:
            self.performer.perform(self._translated(effect), {})
        except ReconcilerError as error:
            return error
        return None

    def states(self) -> dict[str, tuple[str, str | None, tuple[str, ...]]]:
        """Name, state, whose network it is in, networks."""
        found = {}
        for container in self.docker.containers()[0]:
            owner = self.engine.boxes.get(container.namespace_of or "")
            state = "down" if container.status in DOWN else str(container.status)
            found[container.name] = (state, owner.name if owner is not None else None, tuple(sorted(container.networks)))
        return found

    def _translated(self, effect: Effect) -> Effect:
        match effect:
            case e.Start() | e.Unpause() | e.Stop() | e.Signal() | e.Remove() | e.Connect():
                return effect.model_copy(update={"container": self._identity(effect.container)})
            case e.RemoveNetwork():
                return effect.model_copy(update={"leaving": tuple(map(self._identity, effect.leaving))})
            case _:
                return effect

    def _identity(self, named: str) -> str:
        box = self.boxes.boxes.get(named)
        twin = self.engine.find(box.plan.name if box is not None else named)
        return twin.id if twin is not None else named


def simulated(boxes: Boxes) -> dict[str, tuple[str, str | None, tuple[str, ...]]]:
    """The same of the simulation's containers; one that is between two starts is down as well."""
    found = {}
    for box in boxes.boxes.values():
        owner = boxes.boxes.get(box.owner or "")
        state = "down" if box.status in (*DOWN, "restarting") else box.status
        found[box.plan.name] = (state, owner.plan.name if owner is not None else None, tuple(sorted(box.networks)))
    return found
