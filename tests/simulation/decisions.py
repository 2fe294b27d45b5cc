"""What the servers of a simulated world decide: which decision counts, whom it binds, and I8 for each step to the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.cluster import ClusterState, Rollout
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.plan.decide import Decision
from tests.simulation.boxes import Box
from tests.simulation.daemon import Daemon
from tests.simulation.lines import Lines
from tests.simulation.versions import sound

if TYPE_CHECKING:
    from tests.simulation.world import World

Where = tuple[str, InstanceKey]


class Decisions:
    """What has been decided in a world, and the faults that excuse what follows from them.

    hurt: instances that a fault (or a recreate) took down itself. unfair: digests whose staged instance a fault hit: they may be
    rejected. bound: the servers for whose traffic the cluster answers: members that have acknowledged since they joined.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.last: ClusterState | None = None
        self.hurt: set[Where] = set()
        self.unfair: set[str] = set()
        self.lived: set[str] = set()
        self.bound: dict[str, float] = {}  # and since when
        self.joined: dict[str, tuple[str, int]] = {}
        self.live: set[Where] = set()
        self.released: dict[Where, float] = {}
        self.orphaned: set[Where] = set()  # were live in an epoch that was lost, and are not in the one after it
        self.lines = Lines(world)
        self.rollouts: dict[tuple[str, str, str], Rollout] = {}
        self.hands = 0
        self._landed: ClusterState | None = None

    def hits(self, daemon: Daemon, box: Box) -> None:
        """A fault takes a container down."""
        assert box.instance is not None
        self.hurt.add((daemon.machine, box.instance))
        self.unfair.add(box.plan.labels.spec)

    def tampered(self) -> None:
        """Somebody changed the shared decision by hand: what is there now was decided by nobody."""
        self.hands += 1
        self._landed = self.world.remote.cluster

    def rebuilt(self, daemon: Daemon, cluster: ClusterState) -> None:
        """A new epoch has a cause."""
        if not self.hands:
            self.world.fail("I8", f"{daemon.machine} begins {cluster.epoch}, and nobody has touched the branch")

    def proposed(self, daemon: Daemon, before: ClusterState | None, decision: Decision) -> None:
        """A decision that counts once it has landed."""
        self._step(daemon, before, decision.cluster, decision.reasons)

    def wrote(self, daemon: Daemon, ref: str) -> None:
        """A report has one writer: two machines with one name would acknowledge for each other."""
        if ref == daemon.name != daemon.machine:
            self.world.fail("name", f"{daemon.machine} writes the report of {ref}, which another machine is")

    def decided(self, daemon: Daemon, before: ClusterState | None, after: ClusterState, reasons: tuple[str, ...]) -> None:
        """A sole member's decision counts at once."""
        self._step(daemon, before, after, reasons)
        self._counts(after)

    def looks(self) -> None:
        """What has landed on the remote."""
        cluster = self.world.remote.cluster
        if cluster is not None and cluster is not self._landed:
            self._landed = cluster
            self._counts(cluster)
        self._bind()

    def _bind(self) -> None:
        if self.last is None:
            return
        members = {d.machine: d for d in self.world.daemons.values() if d.name in self.last.members and d.machine == d.name}
        self.bound = {name: since for name, since in self.bound.items() if name in members}
        self.joined = {name: since for name, since in self.joined.items() if name in members}
        if len(self.bound) < len(members):
            reports = self.world.remote.reports()
            for name in sorted(members.keys() - self.bound.keys()):
                epoch, generation = self.joined.setdefault(name, (self.last.epoch, self.last.generation))
                report = reports.get(name)
                serving = report.serving if report is not None else None
                current = serving is not None and serving.epoch == self.last.epoch
                if serving is not None and current and (serving.epoch != epoch or serving.generation >= generation):
                    self.bound[name] = self.world.now

    def _step(self, daemon: Daemon, before: ClusterState | None, after: ClusterState, reasons: tuple[str, ...]) -> None:
        """I8: generations grow, every change has a reason."""
        world = self.world
        if before is None:
            return
        if after.generation < before.generation or after.epoch != before.epoch:
            world.fail("I8", f"generation {before.generation} -> {after.generation}, {before.epoch} -> {after.epoch}")
        joins = any(reason.endswith("joins") for reason in reasons)
        for name, state in after.services.items():
            old = before.services.get(name)
            if state != old and not joins and not any(reason.startswith(f"{name} ") for reason in reasons):
                world.fail("I8", f"{name} changes without a reason: {old} -> {state}")
        if int(before.decided_by.program) > int(daemon.program):
            world.fail("I8", f"{daemon.machine} decides with program {daemon.program} after {before.decided_by.program}")

    def _counts(self, after: ClusterState) -> None:
        """It is followed from now on."""
        last = self.last
        if last is not None and (last.epoch == after.epoch and after.generation < last.generation) and not self.hands:
            return
        self.last = after
        world = self.world
        live = {
            (b.server, ServiceKey.parse(name).instance(b.slot, b.replica))
            for name, state in after.services.items()
            for b in state.backends
            if b.role in ("live", "kept") and b.server in world.daemons
        }
        if self.hands and last is not None and last.epoch != after.epoch:
            # What was undone by hand is live again: what a decision in between had removed is started again where it is listed.
            self.hurt |= {where for where in live if not self._healthy(where)}
        if last is not None and last.epoch != after.epoch:
            self.orphaned |= self.live - live
        self.orphaned = {where for where in self.orphaned if not self.promised(where[1].service)}
        for where in self.live - live:
            self.released[where] = world.now
        for where in live:
            self.released.pop(where, None)
            box = world.daemons[where[0]].boxes.find(where[1])
            self.lived |= {box.id} if box is not None else set()
        self.live = live
        self.lines.lands(after)
        for name, state in after.services.items():
            rollout = state.rollout
            if rollout is not None and rollout.phase == "staging":
                known = self.rollouts.setdefault((after.epoch, name, rollout.id), rollout)
                if (known.target, known.revision) != (rollout.target, rollout.revision) and not self.hands:
                    world.fail("I8", f"{name} {rollout.id} is used twice")
            if state.rejected is not None and sound(state.rejected.spec) and state.rejected.spec not in self.unfair:
                world.fail("votes", f"{name}: {state.rejected.spec} was rejected: {state.rejected.reason}")

    def promised(self, service: ServiceKey) -> bool:
        """Whether it is live by the last decision."""
        state = self.last.services.get(str(service)) if self.last is not None else None
        return state is not None and state.live is not None

    def _healthy(self, where: Where) -> bool:
        daemon = self.world.daemons[where[0]]
        return daemon.boxes.healthy(daemon.boxes.find(where[1]), self.world.now)
