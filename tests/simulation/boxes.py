"""A simulated Docker: containers, networks, addresses and published ports of one server, and the nginxes in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from reconciler.errors import Transient
from reconciler.model import effect as e
from reconciler.model.container import ContainerPlan
from reconciler.model.effect import Effect
from reconciler.model.identity import InstanceKey
from reconciler.model.observed import Container
from reconciler.model.routes import Peer
from reconciler.render.blame import loaded_peers
from tests.simulation.served import Refused, Served, serve
from tests.simulation.versions import healthy_after

ROUTES_FOR = 60.0


@dataclass
class Worker:
    """An nginx worker that is shutting down: it ends at `ends`, and carries connections to whom it listed as live."""

    loaded: Served
    since: float
    ends: float
    pinned: bool


@dataclass
class Box:
    """A container."""

    id: str
    plan: ContainerPlan
    number: int
    status: str = "created"
    started: float = 0.0
    owner: str | None = None
    networks: tuple[str, ...] = ()
    exit_code: int | None = None
    restarts: int = 0
    loaded: Served | None = None
    coming: tuple[float, str | None] | None = None  # when it will have loaded a text that it was told to, None: its file's
    workers: list[Worker] = field(default_factory=list)
    refused: tuple[str, str] | None = None
    tries: int = 0
    view: Container | None = None
    view_of: tuple[object, ...] = ()

    @property
    def instance(self) -> InstanceKey | None:
        """The instance it belongs to."""
        return self.plan.labels.instance

    def container(self) -> Container:
        """As an adapter shows it."""
        of = (self.status, self.exit_code, self.restarts, self.networks, self.owner, self.plan)
        if self.view is None or self.view_of != of:
            running = self.status == "running"
            self.view_of = of
            self.view = Container.model_construct(
                id=self.id,
                name=self.plan.name,
                labels=self.plan.labels,
                status=self.status,  # type: ignore[arg-type]
                created=f"{self.number:06d}",
                image_id=self.plan.image,
                address=self.plan.address if running else None,
                pid=1 if running else 0,
                exit_code=self.exit_code,
                restarts=self.restarts,
                namespace_of=self.owner,
                networks=self.networks,
                drift=(),
            )
        return self.view


@dataclass
class Boxes:
    """One server's Docker. Its containers run on while its daemon, or the reconciler, is away."""

    server: str
    machine: str
    boxes: dict[str, Box] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=lambda: {"bridge": "172.17.0.0/16"})
    texts: dict[str, str] = field(default_factory=dict)
    refuses: bool = False
    disliked: str = ""  # an upstream whose changes no nginx takes
    deaf_until: float = 0.0
    stalled_until: float = 0.0  # its nginxes load what they are told only then
    version: int = 0
    _count: int = 0

    # Looking

    def named(self, name: str) -> Box | None:
        """By name."""
        return next((box for box in self.boxes.values() if box.plan.name == name), None)

    def find(self, instance: InstanceKey, role: str = "application") -> Box | None:
        """By instance and role, running ones first."""
        found = [b for b in self.boxes.values() if b.instance == instance and b.plan.labels.role == role]
        return min(found, key=lambda b: (b.status != "running", b.id), default=None)

    def behind(self, owner: Box) -> Box | None:
        """The application that is reached in a container's namespace; None when nothing accepts connections there."""
        if owner.status != "running":
            return None
        if owner.plan.labels.role == "application":
            return owner
        for box in self.boxes.values():
            if box.owner == owner.id and box.status == "running":
                return box
        return None

    def at(self, address: str) -> Box | None:
        """The application that a connection to `ip:port` reaches, on a project network of this server or at a published port."""
        host, _, port = address.rpartition(":")
        for box in self.boxes.values():
            plan = box.plan
            if box.status == "running" and (
                (plan.address == host and plan.labels.service is not None)
                or any(p.host_address == host and p.host_port == int(port) for p in plan.publish)
            ):
                return self.behind(box)
        return None

    def forwarded(self, address: str) -> bool:
        """Whether Docker's forwarder takes a connection from this server to a published port behind which nobody listens."""
        host, _, port = address.rpartition(":")
        return any(
            box.status == "running" and self.behind(box) is None
            for box in self.boxes.values()
            if any(p.host_address == host and p.host_port == int(port) for p in box.plan.publish)
        )

    def healthy(self, box: Box | None, now: float) -> bool:
        """Whether an application serves well."""
        if box is None or box.status != "running":
            return False
        after = healthy_after(box.plan.labels.spec, self.server)
        owner = self.boxes.get(box.owner) if box.owner is not None else None
        return (
            after is not None
            and now - box.started >= after
            and (box.owner is None or (owner is not None and owner.status == "running"))
        )

    def busy(self, network: str) -> list[str]:
        """Who uses a network, besides the edge."""
        return [b.plan.name for b in self.boxes.values() if network in b.networks and b.plan.labels.role != "edge"]

    # Doing

    def perform(self, effect: Effect, now: float, *, old: float, load: float) -> None:
        """Carry out one effect. Raises Transient as the adapters do. What it is told twice, it does once."""
        if now < self.deaf_until:
            raise Transient("Docker does not answer")
        self.version += 1
        match effect:
            case e.CreateNetwork():
                self.networks.setdefault(effect.name, effect.subnet)
            case e.RemoveNetwork():
                for identity in effect.leaving:
                    if identity in self.boxes:
                        self._leave(self.boxes[identity], effect.name)
                users = [b for b in self.boxes.values() if effect.name in b.networks and b.status in ("running", "paused")]
                _check(not users, f"{effect.name} is in use")
                self.networks.pop(effect.name, None)
            case e.Connect():
                box = self._box(effect.container)
                _check(effect.network in self.networks, f"no network {effect.network}")
                if effect.network not in box.networks:
                    box.networks = (*box.networks, effect.network)
            case e.WriteConfig():
                self.texts[effect.name] = effect.text
            case e.ForgetConfig():
                self.texts.pop(effect.name, None)
            case e.Create():
                self._create(effect.plan)
            case e.Start():
                self._start(self._box(effect.container), now)
            case e.Unpause():
                if (found := self._found(effect.container)) is not None and found.status == "paused":
                    found.status = "running"
            case e.Stop():
                if (found := self._found(effect.container)) is not None:
                    self.ends(found, 0)
            case e.Signal():
                if (found := self._found(effect.container)) is not None and found.status == "running":
                    self.ends(found, 0)
            case e.Remove():
                if (found := self._found(effect.container)) is not None:
                    _check(found.status not in ("running", "paused"), "it is still running")
                    del self.boxes[found.id]
            case e.Switch():
                for target in effect.targets:
                    self._switch(target, now, old, load)
            case _:
                pass

    def ends(self, box: Box, code: int) -> None:
        """Its process ends."""
        self.version += 1
        if box.status in ("running", "paused"):
            box.status, box.exit_code = "exited", code
        box.workers, box.coming = [], None
        box.loaded = None

    def starts(self, box: Box, now: float) -> None:
        """Docker starts it by itself; what cannot start stays down."""
        self.version += 1
        try:
            self._start(box, now)
        except Transient:
            box.status, box.exit_code = "exited", 1

    def heals(self, now: float) -> None:
        """Nothing is wrong with its Docker and its nginxes any more."""
        self.refuses, self.disliked, self.deaf_until, self.stalled_until = False, "", 0.0, 0.0
        for box in self.boxes.values():
            box.coming = (now, box.coming[1]) if box.coming is not None else None

    def passes(self, now: float) -> None:
        """Time goes on: what nginx was told to load is loaded, old workers end."""
        for box in self.boxes.values():
            if box.coming is not None and box.coming[0] <= now:
                text, box.coming = box.coming[1] or self.texts.get(box.plan.name), None
                if text is not None and box.loaded is not None and text != box.loaded.text:
                    self.version += 1
                    self._load(box, text, now, 0.0)
            if box.workers and any(worker.ends <= now for worker in box.workers):
                box.workers = [worker for worker in box.workers if worker.ends > now]

    def _found(self, name: str) -> Box | None:
        return self.boxes.get(name) or self.named(name)

    def _box(self, name: str) -> Box:
        box = self._found(name)
        if box is None:
            raise Transient(f"no container {name}")
        return box

    def _create(self, plan: ContainerPlan) -> None:
        owner = None
        if plan.namespace_of is not None:
            found = self.named(plan.namespace_of)
            _check(found is not None, f"no container {plan.namespace_of}")
            owner = found.id if found is not None else None
        there = self.named(plan.name)
        if there is not None and self._adopted(there, plan, owner):
            return
        self._count += 1
        joins = "host" if plan.host_network else plan.network or "bridge"
        networks = (joins,) if owner is None else ()
        identity = f"{self.machine}{self._count:04d}"
        self.boxes[identity] = Box(identity, plan, self._count, owner=owner, networks=networks)

    def _adopted(self, there: Box, plan: ContainerPlan, owner: str | None) -> bool:
        """Whether what has the name is what is to be made; if not, and it does not run, it is removed (FAULTS 14)."""
        same = (there.plan.labels, there.plan.image, there.owner) == (plan.labels, plan.image, owner)
        if same and there.status in ("created", "running"):
            return True
        _check(there.status in ("created", "exited", "dead"), f"{plan.name} runs already from another plan")
        del self.boxes[there.id]
        return False

    def _start(self, box: Box, now: float) -> None:
        if box.status == "running":
            return
        _check(box.status != "paused", f"{box.plan.name} is paused")
        plan = box.plan
        for network in box.networks:
            _check(network in self.networks or network == "host", f"no network {network}")
        for other in self.boxes.values():
            if other is not box and other.status in ("running", "paused"):
                _check(plan.address is None or other.plan.address != plan.address, f"{plan.address} is in use by {other.plan.name}")
                _check(not set(plan.publish) & set(other.plan.publish), f"a port is in use by {other.plan.name}")
        if plan.namespace_of is not None:
            owner = self.boxes.get(box.owner or "")
            _check(owner is not None and owner.status in ("running", "paused"), f"{plan.namespace_of} does not run")
        box.status, box.exit_code, box.started = "running", None, now
        if plan.labels.role != "application":
            text = self.texts.get(plan.name)
            loaded = self._resolved(text) if text is not None else None
            if loaded is None or self.refuses:
                box.status, box.exit_code = "exited", 1
                return
            box.loaded, box.workers, box.refused, box.tries, box.coming = loaded, [], None, 0, None

    def _switch(self, target: e.SwitchTarget, now: float, old: float, load: float) -> None:
        box = self.named(target.name)
        if box is None or box.status != "running" or box.loaded is None:
            return
        complaint = self._complaint(box.loaded.text, target.text)
        if complaint is not None:
            box.refused = (target.fingerprint, complaint)
            box.tries += 1
            self.texts[target.name] = box.loaded.text
            return
        if self.stalled_until > now:
            # As the adapter does: given up after a while, with the file put back that nginx will read when it listens again.
            box.refused = (target.fingerprint, "it did not load it in time")
            box.tries += 1
            self.texts[target.name] = box.loaded.text
            box.coming = (self.stalled_until, None)
            return
        if load > 0:
            box.coming = (now + load, target.text)
            return
        self._load(box, target.text, now, old)

    def _complaint(self, loaded: str, text: str) -> str | None:
        """In nginx's words, why it does not take a text."""
        if self.refuses:
            return "refused by a fault"
        if self.disliked and (after := _peers(text).get(self.disliked)) is not None and after != _peers(loaded).get(self.disliked):
            line = text.splitlines().index(f"    upstream {self.disliked} {{") + 1
            return f"[emerg] 1#1: a fault does not like this in nginx.conf:{line}"
        try:
            serve(text, self._addresses)
        except Refused as error:
            return str(error)
        return None

    def _load(self, box: Box, text: str, now: float, old: float) -> None:
        loaded = self._resolved(text)
        if loaded is None or box.loaded is None:
            return
        self.texts[box.plan.name] = text
        if old > 0:
            box.workers.append(Worker(box.loaded, now, now + old, old > 5.0))
        box.loaded, box.refused, box.tries, box.coming = loaded, None, 0, None

    def _resolved(self, text: str) -> Served | None:
        """The text with the names in it resolved; None when nginx refuses it, as when one of them is not there."""
        try:
            return serve(text, self._addresses)
        except Refused:
            return None

    def _addresses(self, host: str) -> tuple[str, ...]:
        """What Docker's resolver answers on the project networks."""
        there = (b for b in self.boxes.values() if b.status in ("running", "paused") and host in b.plan.aliases)
        return tuple(b.plan.address for b in there if b.plan.address is not None)

    @staticmethod
    def _leave(box: Box, network: str) -> None:
        box.networks = tuple(name for name in box.networks if name != network)

    def nginxes(self) -> Iterator[Box]:
        """Running nginxes that have a configuration."""
        return (box for box in self.boxes.values() if box.loaded is not None and box.status == "running")


@lru_cache(maxsize=2000)
def _peers(text: str) -> Mapping[str, tuple[Peer, ...]]:
    return loaded_peers("", text)


def _check(holds: bool, words: str) -> None:
    if not holds:
        raise Transient(words)
