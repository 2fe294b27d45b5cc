"""The invariants of DESIGN section 6, checked on what is really there, never on what the decision believes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.action import Action, Reload, RemoveInstance, SignalInstance, StartContainer, StartInstance
from reconciler.model.cluster import ClusterState
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.routes import NginxConfig, Upstream
from reconciler.plan.decide import Decision
from tests.simulation.machine import Box, Machine
from tests.simulation.versions import index_of

if TYPE_CHECKING:
    from tests.simulation.world import World

ACK_TIMEOUT = 90.0

Where = tuple[str, InstanceKey]


class Invariants:
    """What a world checks, and the faults that excuse it. `hurt`: instances that a fault (or a recreate) took down itself."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hurt: set[Where] = set()
        self.unfair: set[str] = set()  # digests whose staged instance a fault hit: they may be rejected
        self.removed: set[ServiceKey] = set()
        self.switches: dict[tuple[str, str, int | None], float] = {}
        self.lived: set[str] = set()  # containers that a decision has ever called live
        self.rollouts: dict[tuple[str, str, str], str] = {}

    # Faults

    def hit(self, machine: Machine, box: Box, kind: str) -> None:
        """A fault takes a container down."""
        assert box.instance is not None
        self.hurt.add((machine.name, box.instance))
        self.unfair.add(box.plan.labels.spec)
        if kind == "kill":
            box.status, box.exit_code, box.workers = "exited", 137, []
        elif kind == "pause" and box.status == "running":
            box.status = "paused"
        elif kind == "remove":
            del machine.boxes[box.id]

    # I1, I2, I3

    def check(self) -> None:
        """After every step."""
        world = self.world
        self.hurt = {(s, i) for s, i in self.hurt if not world.machines[s].healthy(i, world.now)}
        for machine in world.machines.values():
            self._two_slots(machine)
            for box in machine.boxes.values():
                if box.loaded is None or box.status != "running":
                    continue
                for config in (box.loaded, *(w.config for w in box.workers if w.ends > world.now)):
                    for upstream in config.upstreams:
                        self._reaches(machine, box, upstream)

    def _two_slots(self, machine: Machine) -> None:
        seen = set()
        for box in machine.boxes.values():
            if box.instance is None:
                continue
            place = (box.instance, box.plan.labels.role)
            if place in seen:
                self.world.fail("I2", f"{box.instance} has two containers on {machine.name}")
            seen.add(place)

    def _reaches(self, machine: Machine, box: Box, upstream: Upstream) -> None:
        world = self.world
        project, env, name = upstream.name.split("_")
        service = ServiceKey(project, env, name)
        live = [world.resolve(machine.name, peer.address) for peer in upstream.peers if not peer.backup]
        backup = [world.resolve(machine.name, peer.address) for peer in upstream.peers if peer.backup]
        where = [found for found in (*live, *backup) if found is not None]
        if any(found in self.hurt for found in where) or self._removed(service):
            return
        for found in where:
            if found[1].service != service and world.machines[found[0]].reachable(found[1]):
                world.fail("I9", f"{box.plan.name} on {machine.name}: {upstream.name} leads to {found}")
        accepting = [found for found in live if found is not None and world.machines[found[0]].reachable(found[1])]
        for found in accepting:
            if not world.machines[found[0]].healthy(found[1], world.now):
                world.fail("I3", f"{box.plan.name} on {machine.name}: {upstream.name} has unhealthy {found}")
        if accepting:
            return
        if not any(found is not None and world.machines[found[0]].healthy(found[1], world.now) for found in backup):
            world.fail("I1", f"{box.plan.name} on {machine.name}: {upstream.name} reaches nobody: {upstream.peers}")

    def _removed(self, service: ServiceKey) -> bool:
        """Whether the config says that it is to go, or it went and comes again: then nobody is promised anything."""
        if service in self.removed:
            return True
        clusters = [self.world.refs.cluster, *(m.cluster for m in self.world.machines.values())]
        known = [c.services.get(str(service)) for c in clusters if c is not None]
        return any(state is None or state.live is None for state in known)

    # Actions

    def before(self, machine: Machine, action: Action) -> None:
        """I5, I9 and the rule about starting, for an action that is about to be carried out."""
        if isinstance(action, RemoveInstance):
            self._may_end(machine, action.ids, action)
        elif isinstance(action, SignalInstance):
            self._may_end(machine, (action.id,), action)
        elif isinstance(action, StartInstance):
            if self._recreated(action.instance.service):
                self.hurt.add((machine.name, action.instance))
            self._may_end(machine, action.replaces, action)
            self._may_start(machine, action)
        elif isinstance(action, Reload):
            for config in action.configs:
                self._keeps(machine, config)

    def after(self, machine: Machine) -> None:
        """After an action."""
        self._two_slots(machine)

    def heals(self, machine: Machine, action: StartInstance | StartContainer) -> bool:
        """Whether an action brings a live instance back."""
        if machine.cluster is None:
            return False
        box = None if isinstance(action, StartInstance) else machine.boxes.get(action.id)
        instance = action.instance if isinstance(action, StartInstance) else box.instance if box is not None else None
        state = machine.cluster.services.get(str(instance.service)) if instance is not None else None
        if state is None or instance is None:
            return False
        place = (machine.name, instance.replica, instance.slot)
        return any(b.role in ("live", "kept") and (b.server, b.replica, b.slot) == place for b in state.backends)

    def _may_end(self, machine: Machine, ids: tuple[str, ...], action: Action) -> None:
        world = self.world
        for identity in ids:
            box = machine.boxes.get(identity)
            if box is None or box.instance is None or (machine.name, box.instance) in self.hurt:
                continue
            if self._recreated(box.instance.service) or box.id not in self.lived:
                continue
            where = (machine.name, box.instance)
            for server, nginx, config in self._running():
                if where in world.live_peers(server, config) and not self._excused(machine, where, server, config):
                    world.fail("I5", f"{action.kind} of {box.instance} on {machine.name}: {nginx} on {server} lists it as live")

    def _excused(self, machine: Machine, where: Where, server: str, config: NginxConfig) -> bool:
        """Step 4: after `ack_timeout` a silent member that still reaches another healthy instance is not waited for."""
        world, cluster, service = self.world, machine.cluster, where[1].service
        state = cluster.services.get(str(service)) if cluster is not None else None
        if cluster is None or state is None or state.rollout is None:
            return False
        since = self.switches.get((cluster.epoch, str(service), state.rollout.switched_at))
        if since is None or world.now - since < ACK_TIMEOUT:
            return False
        name = f"{service.project}_{service.env}_{service.service}"
        peers = (peer for upstream in config.upstreams if upstream.name == name for peer in upstream.peers)
        found = (world.resolve(server, peer.address) for peer in peers)
        return any(f is not None and f != where and world.machines[f[0]].healthy(f[1], world.now) for f in found)

    def _may_start(self, machine: Machine, action: StartInstance) -> None:
        where = (machine.name, action.instance)
        if where in self.hurt or self._removed(action.instance.service):
            return
        for server, nginx, config in self._running(old=True):
            if where in self.world.live_peers(server, config):
                self.world.fail("I5", f"{action.instance} starts on {machine.name} while {nginx} on {server} lists it as live")

    def _running(self, *, old: bool = False) -> list[tuple[str, str, NginxConfig]]:
        """Configurations in use: (server, nginx, configuration)."""
        found = []
        for machine in self.world.machines.values():
            for box in machine.boxes.values():
                if box.loaded is None or box.status != "running":
                    continue
                found.append((machine.name, box.plan.name, box.loaded))
                if old:
                    ends = (w.config for w in box.workers if w.ends > self.world.now)
                    found.extend((machine.name, box.plan.name, config) for config in ends)
        return found

    def _keeps(self, machine: Machine, config: NginxConfig) -> None:
        """An upstream that an nginx has does not vanish while its service is live."""
        box = next((b for b in machine.boxes.values() if b.plan.name == config.name), None)
        if box is None or box.loaded is None:
            return
        for name in {u.name for u in box.loaded.upstreams} - {u.name for u in config.upstreams}:
            service = ServiceKey(*name.split("_"))
            hurt = any(instance.service == service for _, instance in self.hurt)
            if hurt or self._removed(service) or config.kind == "edge":
                continue
            self.world.fail("I1", f"{config.name} on {machine.name} loses {name}, which is live")

    def _recreated(self, service: ServiceKey) -> bool:
        """Recreate is exempt from I4 and I5 and has its documented gap in I1."""
        return service.service == "store"

    # Decisions

    def decision(self, before: ClusterState | None, decision: Decision) -> None:
        """I8: generations grow, every change has a reason, an identity is used once, nothing good is rejected."""
        world, after = self.world, decision.cluster
        if before is not None and (after.generation < before.generation or after.epoch != before.epoch):
            world.fail("I8", f"generation {before.generation} -> {after.generation}")
        names = {*after.services, *(before.services if before is not None else ())}
        gone = {n for n in names if n not in after.services or after.services[n].live is None}
        self.removed = (self.removed | {ServiceKey.parse(n) for n in gone}) - {ServiceKey.parse(n) for n in names - gone}
        for name, state in after.services.items():
            for backend in (b for b in state.backends if b.role == "live"):
                box = world.machines[backend.server].find(ServiceKey.parse(name).instance(backend.slot, backend.replica))
                self.lived |= {box.id} if box is not None else set()
            old = before.services.get(name) if before is not None else None
            told = any(reason.startswith(f"{name} ") or reason.endswith("joins") for reason in decision.reasons)
            if before is not None and state != old and not told:
                world.fail("I8", f"{name} changes without a reason: {old} -> {state}")
            rollout = state.rollout
            if rollout is not None and rollout.switched_at is not None:
                self.switches.setdefault((after.epoch, name, rollout.switched_at), world.now)
            earlier = old.rollout.id if old is not None and old.rollout is not None else None
            if rollout is not None and rollout.phase == "staging" and earlier != rollout.id:
                used = self.rollouts.setdefault((after.epoch, name, rollout.id), after.model_dump_json())
                if used != after.model_dump_json() and world.size == 1:
                    world.fail("I8", f"{name} {rollout.id} is used twice")
            if state.rejected is not None and state.rejected.spec.endswith("-good") and state.rejected.spec not in self.unfair:
                world.fail("votes", f"{name}: {state.rejected.spec} was rejected: {state.rejected.reason}")

    # The end

    def converged(self) -> None:
        """I4, I6: what is desired is live, or the status names why not; nothing is left behind."""
        world = self.world
        cluster = world.refs.cluster
        if cluster is None:
            world.fail("I6", "there is no decision")
            return
        desired = world.commits.desired(world.commits.head)
        if index_of(cluster.config) != world.commits.head:
            world.fail("I6", "the decision follows an older commit")
        for key, want in desired.services.items():
            state = cluster.services.get(str(key))
            if state is None:
                world.fail("I6", f"{key} is not in the decision")
                return
            live = [b for b in state.backends if b.role == "live"]
            named = state.held or (state.rollout is not None and (state.rollout.reason or "").startswith("Stalled"))
            if not named:
                if state.live is None or state.live.spec != want.spec.digest:
                    world.fail("I6", f"{key} should be {want.spec.digest}: {state}")
                if {b.spec for b in live} != {want.spec.digest}:
                    world.fail("I4", f"{key}: {live}")
                if {(b.server, b.replica) for b in live} != {(s, r + 1) for s in want.servers for r in range(want.replicas)}:
                    world.fail("I6", f"{key} is on {live}, not on {want.servers}")
            if state.rollout is not None and state.rollout.phase not in ("done", "aborted") and not named:
                world.fail("I6", f"{key} is still {state.rollout.phase}")
            if any(b.role != "live" for b in state.backends) and not named:
                world.fail("I6", f"{key} still has {state.backends}")
        for name, state in cluster.services.items():
            if ServiceKey.parse(name) not in desired.services and not state.held:
                world.fail("I6", f"{name} is removed and still there: {state}")
        for machine in world.machines.values():
            self._machine(machine, cluster)
        self._same_bytes(cluster)

    def _same_bytes(self, cluster: ClusterState) -> None:
        """A tag is resolved once for each rollout: whatever runs one version runs one image."""
        for name, state in cluster.services.items():
            live = [b for b in state.backends if b.role == "live" and state.live is not None and b.spec == state.live.spec]
            found = {
                (b.server, box.plan.image)
                for b in live
                if (box := self.world.machines[b.server].find(ServiceKey.parse(name).instance(b.slot, b.replica))) is not None
            }
            if len({image for _, image in found}) > 1:
                self.world.fail("I4", f"{name} runs different images: {sorted(found)}, recorded is {state.live}")

    def _machine(self, machine: Machine, cluster: ClusterState) -> None:
        listed = {
            ServiceKey.parse(name).instance(b.slot, b.replica)
            for name, state in cluster.services.items()
            for b in state.backends
            if b.server == machine.name
        }
        there = {b.instance for b in machine.boxes.values() if b.instance is not None}
        if listed != there:
            self.world.fail("I6", f"{machine.name} has {sorted(map(str, there))}, the decision lists {sorted(map(str, listed))}")
        for instance in listed:
            box = machine.find(instance)
            if box is not None and box.good and not machine.healthy(instance, self.world.now):
                self.world.fail("I6", f"{instance} on {machine.name} is {box.status}")
        needed = {instance.service.network for instance in there} | {"bridge"}
        if not cluster.services and set(machine.networks) != needed:
            self.world.fail("I6", f"{machine.name} has networks {machine.networks}")
