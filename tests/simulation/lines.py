"""Rolling rollouts, as they land: how many servers are switched at a time, and how long a batch has its traffic before the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler.model.cluster import ClusterState, Rollout, ServiceState
from reconciler.model.identity import ServiceKey
from tests.simulation.versions import index_of

if TYPE_CHECKING:
    from tests.simulation.world import World

FASTEST = 1.25
"""The fastest clock: what takes N seconds by it takes N / FASTEST."""


@dataclass(frozen=True)
class _Line:
    """The servers on which the version is live, and since when the last of them has been."""

    rollout: str
    there: frozenset[str]
    since: float


@dataclass
class Lines:
    """What is known of each service's line."""

    world: World
    _known: dict[str, _Line] = field(default_factory=dict)

    def lands(self, cluster: ClusterState) -> None:
        """A decision is followed from now on."""
        for name, state in cluster.services.items():
            rollout = state.rollout
            self._taken_back(name, state, cluster)
            if rollout is None or rollout.strategy != "rolling" or rollout.returned is not None:
                self._known.pop(name, None)
            else:
                self._goes_on(name, state, rollout, cluster)

    def _taken_back(self, name: str, state: ServiceState, cluster: ClusterState) -> None:
        """What was refused in the middle of a line has gone back everywhere, unless a fault had hit what it should go back to."""
        want = self.world.commits.desired(index_of(cluster.config)).services.get(ServiceKey.parse(name))
        rollout, refused, live = state.rollout, state.rejected, state.live
        if want is None or rollout is None or refused is None or live is None or live.spec == refused.spec:
            return
        over = rollout.strategy == "rolling" and rollout.phase == "aborted" and rollout.target == refused.spec == want.spec.digest
        left = [b.server for b in state.backends if b.role == "live" and b.spec == refused.spec]
        if over and left and want.rolling.on_failure == "abort_all" and live.spec not in self.world.invariants.unfair:
            self.world.fail("line", f"{name}: {refused.spec} was refused ({refused.reason}) and is still live on {left}")

    def _goes_on(self, name: str, state: ServiceState, rollout: Rollout, cluster: ClusterState) -> None:
        now = self.world.now
        there = frozenset(b.server for b in state.backends if b.role == "live" and b.spec == rollout.target)
        identity = f"{cluster.epoch} {rollout.target} {rollout.revision}"
        line = self._known.get(name)
        if line is None or line.rollout != identity:
            self._known[name] = _Line(identity, there, -1e9)
            return
        want = self.world.commits.desired(index_of(cluster.config)).services.get(ServiceKey.parse(name))
        fresh, ends = there - line.there, not rollout.in_line and rollout.phase != "aborted"
        if want is not None and want.spec.digest == rollout.target and (fresh or ends) and not self.world.invariants.hands:
            if len(fresh) > want.rolling.max_parallel:
                self.world.fail("line", f"{name} is switched on {sorted(fresh)}, max_parallel is {want.rolling.max_parallel}")
            if now - line.since < want.rolling.soak / FASTEST:
                where = f"switched on {sorted(fresh)}" if fresh else "at its end"
                self.world.fail("line", f"{name} is {where} {now - line.since:.1f} s after {sorted(line.there)}")
        self._known[name] = _Line(identity, there, now if fresh else -1e9 if ends else line.since)
