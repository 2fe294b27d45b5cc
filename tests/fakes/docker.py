"""The engine's `DockerPort` in front of a simulated dockerd, with the promises and errors of `reconciler.effects.docker`.

`tests/contract/test_docker_contract.py` holds it equal to the real adapter on a real Engine.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.effects.docker_create import unnamed_volumes
from reconciler.errors import Stalled, Transient
from reconciler.model.container import ContainerPlan, Labels
from reconciler.model.observed import Container
from tests.fakes.docker_engine import Box, Engine, EngineError
from tests.fakes.docker_images import FakeImages
from tests.fakes.docker_view import view


class FakeDocker(FakeImages):
    """One daemon as one server sees it: containers labelled `reconciler.server=<server>` are ours."""

    def __init__(self, engine: Engine, server: str) -> None:
        super().__init__(engine, server)
        self._seen: dict[str, tuple[tuple[object, ...], Container]] = {}

    # Containers

    def containers(self) -> tuple[tuple[Container, ...], frozenset[str]]:
        """Ours by label, sorted by name, and the names that foreign containers use."""
        with self._call("list", ""):
            boxes = self.engine.boxes.values()
            ours = [self._container(box) for box in boxes if self._is_ours(box)]
            foreign = frozenset(box.name for box in boxes if not self._is_ours(box))
            self._seen = {identity: known for identity, known in self._seen.items() if identity in self.engine.boxes}
            return tuple(sorted(ours, key=lambda container: (container.name, container.id))), foreign

    def invalidate(self, identity: str | None = None) -> None:
        """Nothing is remembered that could be wrong."""

    def create(self, plan: ContainerPlan) -> str:
        """Create a container and return its id; what a killed attempt left is adopted or removed."""
        with self._call("create", plan.name):
            stored = self.engine.images.get(plan.image)
            if stored is None:
                raise Transient(f"container {plan.name} needs image {plan.image}, which is not here: pull or build it first")
            unnamed = unnamed_volumes(plan, stored.volumes)
            if unnamed and plan.image_volumes == "refuse":
                raise Stalled(f"image {plan.image} of {plan.name} keeps data in {', '.join(unnamed)}", reason="UnnamedVolume")
            self._namespace(plan)
            in_the_way = self.engine.find(plan.name)
            if in_the_way is not None and self._adopted(plan, in_the_way):
                return in_the_way.id
            return self.engine.create(plan).id

    def start(self, identity: str) -> None:
        """Start it; nothing happens when it runs."""
        with self._call("start", identity):
            box = self.engine.find(identity)
            if box is None:
                raise Transient(f"container {identity} is gone: it is made again in the next pass")
            try:
                self.engine.start(box)
            except EngineError as error:
                if error.code == 400:
                    raise Stalled(f"container {identity} cannot start: {error}: correct it", reason="StartFailed") from error
                raise Transient(f"container {identity} cannot start now: {error}") from error

    def unpause(self, identity: str) -> None:
        """Let a frozen container go on."""
        with self._call("unpause", identity):
            if (box := self.engine.find(identity)) is not None:
                self.engine.pause(box, frozen=False)

    def stop(self, identity: str, signal: str | None = None, grace: float = 10.0) -> int | None:
        """Signal, wait `grace` seconds, SIGKILL. Returns the exit code, None when it is gone. Takes no virtual time."""
        with self._call("stop", identity):
            box = self.engine.find(identity)
            if box is None:
                return None
            if signal is not None:
                self.engine.signal(box, signal, wish=_is_a_wish(box, signal))
            self.engine.stop(box)
            return box.exit_code

    def kill(self, identity: str, signal: str | None) -> None:
        """Send a signal through Docker; nothing happens when it does not run."""
        with self._call("kill", identity):
            box = self.engine.find(identity)
            if box is not None:
                sent = signal or box.stop_signal or "SIGTERM"
                self.engine.signal(box, sent, wish=_is_a_wish(box, sent))

    def remove(self, identity: str) -> None:
        """Remove a stopped container of ours; never its volumes."""
        with self._call("remove", identity):
            box = self.engine.find(identity)
            if box is None:
                return
            if not self._is_ours(box):
                raise Stalled(f"container {box.name} is not this server's: it is never removed", reason="ForeignContainer")
            self._engine_says(lambda: self.engine.remove(box), f"container {box.name} is not removed")

    def restore(self, identity: str, plan: ContainerPlan) -> None:
        """Undo what was changed by hand, without a restart."""
        with self._call("restore", identity):
            box = self.engine.find(identity)
            if box is None:
                raise Transient(f"container {plan.name} is gone: it is made again in the next pass")
            if box.name != plan.name:
                self.engine.rename(box, plan.name)
            box.by_hand.clear()
            box.restart = plan.restart
            box.version += 1
            if box.joined is None and not plan.host_network:
                self._rejoin(box, plan)

    # Networks

    def networks(self) -> Mapping[str, str]:
        """Every network: name -> subnet."""
        with self._call("networks", ""):
            return {network.name: network.subnet for network in self.engine.networks.values()}

    def own_networks(self) -> Mapping[str, str]:
        """This server's."""
        with self._call("networks", ""):
            return {network.name: network.subnet for network in self.engine.networks.values() if network.server == self.server}

    def create_network(self, name: str, subnet: str, labels: Mapping[str, str] | None = None) -> None:
        """Make a project network; nothing happens when it is there."""
        with self._call("network-create", name):
            there = self.engine.networks.get(name)
            if there is None:
                self._engine_says(lambda: self.engine.create_network(name, subnet, self.server), f"network {name}")
            elif (there.server, there.subnet) != (self.server, subnet):
                raise Stalled(
                    f"network {name} exists with subnet {there.subnet} and is not the one wanted", reason="ForeignNetwork"
                )

    def connect(self, container: str, network: str, address: str) -> None:
        """Join a container to a network at a fixed address; nothing happens when it is there."""
        with self._call("connect", f"{container} {network}"):
            box = self.engine.find(container)
            if box is None:
                raise Transient(f"Docker refused to connect {container} to {network}: no such container")
            if network in box.networks and box.endpoints[network] != address:
                self.engine.disconnect(box, network)
            if network not in box.networks:
                self._engine_says(lambda: self.engine.connect(box, network, address or None), f"connect {container} to {network}")

    def disconnect(self, container: str, network: str) -> None:
        """Take a container from a network; nothing happens when it is not on it."""
        with self._call("disconnect", f"{container} {network}"):
            if (box := self.engine.find(container)) is not None:
                self.engine.disconnect(box, network)

    def remove_network(self, name: str) -> None:
        """Remove an empty network of ours; nothing happens when it is gone."""
        with self._call("network-remove", name):
            there = self.engine.networks.get(name)
            if there is None:
                return
            if there.server != self.server:
                raise Stalled(f"network {name} is not this server's: it is never removed", reason="ForeignNetwork")
            self._engine_says(lambda: self.engine.remove_network(name), f"remove network {name}")

    # Output, ports

    def logs(self, identity: str, tail: int = 20) -> tuple[str, ...]:
        """The last lines that a container wrote; empty when it is gone."""
        with self._call("logs", identity):
            box = self.engine.find(identity)
            return box.program.output[-tail:] if box is not None else ()

    def ports_in_use(self, address: str, besides: int = 0) -> frozenset[int]:
        """TCP ports of the server that cannot be bound on `address`, without those of the process `besides`."""
        self.engine.settle()
        taken = set(self.engine.foreign_ports)
        for box in self.engine.boxes.values():
            if box.up and box.plan.host_network and box.pid != besides:
                taken.update(("127.0.0.1", port) for port in box.program.listens)
            if box.up:
                taken.update((published.host_address, published.host_port) for published in box.plan.publish)
        return frozenset(port for on, port in taken if on in (address, "0.0.0.0"))

    # Inside

    def _is_ours(self, box: Box) -> bool:
        return box.ours and box.plan.labels.server == self.server

    def _engine_says(self, asked: object, what: str) -> None:
        assert callable(asked)
        try:
            asked()
        except EngineError as error:
            raise Transient(f"Docker refused to {what}: {error}") from error

    def _namespace(self, plan: ContainerPlan) -> None:
        if plan.namespace_of is not None:
            owner = self.engine.find(plan.namespace_of)
            if owner is None or not self._is_ours(owner):
                raise Transient(f"{plan.name} is to join the network of {plan.namespace_of}, which is not there: it is made first")

    def _adopted(self, plan: ContainerPlan, box: Box) -> bool:
        """Whether what has the name is taken for what is to be made; if not, the name is free now."""
        labels: Labels | None = box.plan.labels if self._is_ours(box) else None
        if labels is None or (labels.instance, labels.role) != (plan.labels.instance, plan.labels.role):
            raise Stalled(f"the name {plan.name} is taken by a container that is not the reconciler's", reason="ForeignContainer")
        owner = self.engine.find(plan.namespace_of) if plan.namespace_of is not None else None
        same = labels == plan.labels and box.plan.image == plan.image and (owner is None or box.joined == owner.id)
        if same and box.status in ("created", "running"):
            return True
        if box.status in ("running", "paused", "restarting"):
            raise Transient(f"{plan.name} runs already from another plan ({labels.spec or 'no spec'}): the next pass looks again")
        self.engine.remove(box)
        return False

    def _rejoin(self, box: Box, plan: ContainerPlan) -> None:
        wanted = {plan.network or "bridge": plan.address}
        if plan.labels.role != "edge":
            for network in set(box.networks) - wanted.keys():
                self.engine.disconnect(box, network)
        for network, address in wanted.items():
            lost = set(plan.aliases) - set(box.aliases.get(network, ()))
            if network in box.networks and (lost or (address is not None and box.endpoints[network] != address)):
                self.engine.disconnect(box, network)
            if network not in box.networks:
                self._engine_says(lambda: self.engine.connect(box, network, address, plan.aliases), f"connect to {network}")  # noqa: B023

    def _container(self, box: Box) -> Container:
        owner = self.engine.boxes.get(box.joined) if box.joined is not None else None
        state = (box.version, box.status, owner.version if owner is not None else None, owner.status if owner is not None else None)
        known = self._seen.get(box.id)
        if known is not None and known[0] == state:
            return known[1]
        container = view(box, owner)
        self._seen[box.id] = (state, container)
        return container


def _is_a_wish(box: Box, signal: str) -> bool:
    """Docker takes SIGKILL and a container's own stop signal, any signal if it has none, for the wish to stop it for good."""
    return signal == "SIGKILL" or box.stop_signal is None or signal == box.stop_signal
