"""The invariants of DESIGN section 6, checked on what is really there, never on what the decision believes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from reconciler.model import effect as e
from reconciler.model.action import Action, RemoveInstance
from reconciler.model.effect import Effect
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.plan.nginxes import SIDECAR_TRIES
from tests.simulation import rest
from tests.simulation.boxes import ROUTES_FOR, Box
from tests.simulation.daemon import Daemon
from tests.simulation.decisions import Decisions, Where
from tests.simulation.lines import FASTEST
from tests.simulation.served import Served, meaning
from tests.simulation.versions import DRAIN, PORT

if TYPE_CHECKING:
    from tests.simulation.world import World

ACK_TIMEOUT = 90.0 / FASTEST

At = tuple[Daemon, Box]
Peers = tuple[str, ...]
Found = dict[tuple[str, str], At | None]


class Invariants(Decisions):
    """What a world checks, and the faults that excuse it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.served: set[str] = set()  # ids of applications that some nginx had as live: the decision alone brings no traffic
        self._checked = -1

    # After every step

    def check(self) -> None:
        """I1, I2, I3 and I9, wherever something has changed."""
        self.looks()
        world = self.world
        version = sum(daemon.boxes.version for daemon in world.daemons.values())
        if version == self._checked:
            return
        self._checked = version
        if self.hurt:
            self.hurt = {where for where in self.hurt if not self._healthy(where)}
        found: Found = {}
        for daemon, box in world.nginxes():
            counts = daemon.machine in self.bound and not self._out_of_reach(daemon)
            if box.plan.name in daemon.unseen and (daemon.machine, box.instance) not in self.live:
                counts = False  # nothing waits for a staged one that was begun with older routes: the pass that finds it reloads it
            for loaded in self._routing(daemon, box):
                for name, live, backup in loaded.groups:
                    accepting = [at for peer in live if (at := self._at(daemon, peer, found)) is not None]
                    self.served.update(at[1].id for at in accepting)
                    if counts:
                        self._reaches(daemon, box, name, accepting, live, backup, found)

    def _routing(self, daemon: Daemon, box: Box) -> Iterator[Served]:
        """The configurations by which an nginx chooses backends: an old worker of the mesh has chosen all of its own."""
        assert box.loaded is not None
        yield box.loaded
        if box.plan.labels.role == "edge":
            now, bound = self.world.now, self.bound.get(daemon.machine, 0.0)
            for worker in box.workers:
                if bound <= worker.since and now < worker.ends and now < worker.since + ROUTES_FOR / daemon.rate:
                    yield worker.loaded

    def _reaches(
        self, daemon: Daemon, nginx: Box, name: str, accepting: list[At], live: Peers, backup: Peers, found: Found
    ) -> None:
        service = _service(name)
        if not self.promised(service):
            return
        for other, box in accepting:
            instance = box.instance
            assert instance is not None
            if instance.service != service:
                self.world.fail("I9", f"{_named(nginx, daemon, name)} leads to {instance} on {other.machine}")
            if (other.machine, instance) not in self.hurt and not _given_up(nginx) and not other.boxes.healthy(box, self.world.now):
                self.world.fail("I3", f"{_named(nginx, daemon, name)} has the unhealthy {instance} on {other.machine}")
        for peer in live:
            if self._at(daemon, peer, found) is None and self.world.forwarded(daemon, peer):
                self.world.fail("I1", f"{_named(nginx, daemon, name)} sends requests to its own {peer}, where nobody listens")
        if accepting:
            return
        behind = [at for peer in backup if (at := self._at(daemon, peer, found)) is not None]
        if any(other.boxes.healthy(box, self.world.now) for other, box in behind):
            return
        if not any(instance.service == service for _, instance in self.hurt):
            self.world.fail("I1", f"{_named(nginx, daemon, name)} reaches nobody: {live} {backup}")

    def _at(self, daemon: Daemon, peer: str, found: Found) -> tuple[Daemon, Box] | None:
        place = (daemon.machine, peer)
        if place not in found:
            found[place] = self.world.reached(daemon, peer)
        return found[place]

    def _out_of_reach(self, daemon: Daemon) -> bool:
        """A server that the inventory drains is waited for up to `ack_timeout` only."""
        tree = self.world.commits.tree
        if self.last is None or tree.servers.get(daemon.name, ("", "removed"))[1] == "active":
            return False
        report = self.world.remote.reports().get(daemon.name)
        serving = report.serving if report is not None else None
        return serving is None or (serving.epoch, serving.generation) != (self.last.epoch, self.last.generation)

    # Actions and effects

    def planned(self, daemon: Daemon, action: Action) -> None:
        """A newcomer keeps still; nobody's connections are cut before `drain` allows it."""
        cluster, view = daemon.cluster, daemon.view
        outsider = cluster is not None and daemon.name not in cluster.members
        if outsider and view is not None and daemon.name in self.world.commits.trees[view.head].servers:
            self.world.fail("member", f"{daemon.machine} does {action.kind} before it is a member: {action.cause}")
        fresh = daemon.observed_at == self.world.now and daemon.machine in self.bound and not self.hands
        if not isinstance(action, RemoveInstance) or not fresh:
            return
        for identity in action.ids:
            box = daemon.boxes.boxes.get(identity)
            if box is None or box.instance is None or box.plan.labels.role != "application" or box.id not in self.lived:
                continue
            since = self.released.get((daemon.machine, box.instance))
            early = since is not None and self.world.now - since < DRAIN / FASTEST
            if early and box.status == "running" and self.world.carried(daemon, box):
                self.world.fail("drain", f"{box.plan.name} on {daemon.machine} is removed with connections: {action.cause}")

    def before(self, daemon: Daemon, effect: Effect) -> None:
        """I5 and the rule about starting, for an effect that is about to be carried out."""
        match effect:
            case e.Stop() | e.Remove() | e.Signal():
                box = daemon.boxes.boxes.get(effect.container)
                if box is not None and box.instance is not None:
                    self._may_end(daemon, box, box.instance)
            case e.Start():
                box = daemon.boxes.boxes.get(effect.container) or daemon.boxes.named(effect.container)
                if box is not None and box.instance is not None and box.plan.labels.role == "application":
                    self._may_start(daemon, box, box.instance)
            case e.Switch():
                for target in effect.targets:
                    self._keeps(daemon, target)
            case _:
                pass

    def after(self, daemon: Daemon, effect: Effect) -> None:
        """I2, and everything that holds after every step."""
        if isinstance(effect, e.Create):
            places = [(b.instance, b.plan.labels.role) for b in daemon.boxes.boxes.values() if b.instance is not None]
            if len(places) != len(set(places)):
                self.world.fail("I2", f"{effect.plan.name} is there twice on {daemon.machine}")
        if isinstance(effect, e.Remove):
            self.hurt = {(m, i) for m, i in self.hurt if m != daemon.machine or self._still(daemon, i)}
        self.check()

    def _still(self, daemon: Daemon, instance: InstanceKey) -> bool:
        """What the protocol let go and took away is no longer a fault's doing."""
        return daemon.boxes.find(instance) is not None or (daemon.machine, instance) not in self.released

    def _may_end(self, daemon: Daemon, box: Box, instance: InstanceKey) -> None:
        world, where = self.world, (daemon.machine, instance)
        side = daemon.boxes.find(instance, "sidecar")
        if self._recreated(instance.service) or (side is not None and side.tries >= SIDECAR_TRIES):
            self.hurt.add(where)  # a sidecar that cannot reload is replaced with its pair
        if where in self.hurt or box.id not in self.lived:
            return
        if not self.promised(instance.service):
            self._may_forget(daemon, box, instance)
            return
        addresses = self._addresses(daemon, box)
        for other, nginx in world.nginxes():
            if other.machine not in self.bound or self._out_of_reach(other) or _given_up(nginx):
                continue
            assert nginx.loaded is not None
            for _, live, backup in nginx.loaded.groups:
                if any((other is daemon or public) and address in live for address, public in addresses) and not self._excused(
                    where, other, (*live, *backup), box
                ):
                    world.fail(
                        "I5", f"{box.plan.name} on {daemon.machine} ends: {nginx.plan.name} on {other.machine} lists it as live"
                    )

    def _may_forget(self, daemon: Daemon, box: Box, instance: InstanceKey) -> None:
        """What had the traffic before a loss and is still wanted is found again: its last healthy instance does not end."""
        world, service = self.world, instance.service
        wanted = service in world.commits.desired(world.commits.head).services and box.id in self.served
        if (daemon.machine, instance) not in self.orphaned or not wanted or daemon.machine != daemon.name:
            return
        healthy = [b for d in world.daemons.values() for b in d.boxes.boxes.values() if d.boxes.healthy(b, world.now)]
        if [b.id for b in healthy if b.instance is not None and b.instance.service == service] == [box.id]:
            world.fail("I1", f"{box.plan.name} on {daemon.machine} ends: nothing else is left of {service}, which was live")

    def _excused(self, where: Where, other: Daemon, peers: tuple[str, ...], box: Box) -> bool:
        """Step 4: after `ack_timeout` a silent member that still reaches another healthy instance is not waited for."""
        since = self.released.get(where)
        if since is None or self.world.now - since < ACK_TIMEOUT:
            return False
        reached = (self.world.reached(other, peer) for peer in peers)
        return any(at is not None and at[1] is not box and at[0].boxes.healthy(at[1], self.world.now) for at in reached)

    def _may_start(self, daemon: Daemon, box: Box, instance: InstanceKey) -> None:
        where = (daemon.machine, instance)
        if where in self.hurt or not self.promised(instance.service) or box.status == "running":
            return
        addresses = self._addresses(daemon, box)
        for other, nginx in self.world.nginxes():
            if other.machine not in self.bound or self._out_of_reach(other) or _given_up(nginx):
                continue
            for loaded in self._routing(other, nginx):
                for _, live, _ in loaded.groups:
                    if any((other is daemon or public) and address in live for address, public in addresses):
                        where_listed = f"{nginx.plan.name} on {other.machine}"
                        self.world.fail("I5", f"{box.plan.name} starts on {daemon.machine} while {where_listed} lists it as live")

    @staticmethod
    def _addresses(daemon: Daemon, box: Box) -> list[tuple[str, bool]]:
        """How nginxes name it, and whether those of other servers do."""
        owner = daemon.boxes.boxes.get(box.owner, box) if box.owner is not None else box
        plan = owner.plan
        return [(f"{plan.address}:{PORT}", False), *((f"{p.host_address}:{p.host_port}", True) for p in plan.publish)]

    def _keeps(self, daemon: Daemon, target: e.SwitchTarget) -> None:
        """An upstream that an nginx has does not vanish while its service is live."""
        box = daemon.boxes.named(target.name)
        if box is None or box.loaded is None or box.plan.labels.role == "edge" or daemon.machine not in self.bound:
            return
        for name in sorted(box.loaded.meaning.used - meaning(target.text).used):
            service = _service(name)
            hurt = any(instance.service == service for _, instance in self.hurt)
            if self.promised(service) and not hurt and not self._elsewhere(service, daemon):
                self.world.fail("I1", f"{target.name} on {daemon.machine} loses {name}, which is live")

    def _elsewhere(self, service: ServiceKey, daemon: Daemon) -> bool:
        """Whether it is not published any more, as nobody on other servers may call it, and runs on none but those."""
        assert self.last is not None
        live = [b for b in self.last.services[str(service)].backends if b.role == "live"]
        return all(b.port is None and b.server != daemon.name for b in live)

    def _recreated(self, service: ServiceKey) -> bool:
        """Recreate is exempt from I4 and I5 and has its documented gap in I1."""
        return service.service == "store"

    # The end

    def converged(self) -> None:
        """I4, I6: what is desired is live, or the status names why not; nothing is left behind."""
        rest.check(self.world)


def _given_up(nginx: Box) -> bool:
    """A sidecar that cannot reload is replaced with its pair and not waited for; its fallback is what its application has left."""
    return nginx.plan.labels.role == "sidecar" and nginx.tries >= SIDECAR_TRIES


@lru_cache(maxsize=256)
def _service(upstream: str) -> ServiceKey:
    """The service that an upstream is of."""
    return ServiceKey(*upstream.split("_"))


def _named(nginx: Box, daemon: Daemon, upstream: str) -> str:
    return f"{nginx.plan.name} on {daemon.machine}: {upstream}"
