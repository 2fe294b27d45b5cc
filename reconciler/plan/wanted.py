"""Which instances this server should have, by the decision: what `plan` compares with what is observed."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.cluster import Backend, ClusterState, Rollout, ServiceState
from reconciler.model.desired import Build, Desired, DesiredService
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.lately import lately
from reconciler.model.observed import Container, Observed
from reconciler.plan.votes import pinned


@dataclass(frozen=True)
class Wanted:
    """One instance that the decision lists for this server."""

    instance: InstanceKey
    backend: Backend
    state: ServiceState
    service: DesiredService | None  # None: its spec is not known here (yet)
    image: str  # the reference to run: immutable where the decision knows one
    build: Build | None

    @property
    def rollout(self) -> Rollout | None:
        """The service's rollout, whatever its phase."""
        return self.state.rollout

    @property
    def gated(self) -> bool:
        """Whether the instance has still to pass its health gate: staged, or being replaced in its turn."""
        rollout = self.rollout
        if self.backend.role == "staged":
            return True
        return (
            rollout is not None
            and rollout.phase == "replacing"
            and rollout.replacing == self.backend.server
            and self.backend.role == "live"
            and self.backend.spec == rollout.target
        )

    @property
    def pinned(self) -> bool:
        """Whether it is behind its gate, and its rollout names the bytes to run."""
        return self.gated and self.build is None and pinned(self.image)

    @property
    def soaking(self) -> bool:
        """Whether it was switched in a rolling rollout and has to stay healthy for a while before the line goes on."""
        rollout = self.rollout
        return (
            rollout is not None
            and rollout.in_line
            and rollout.phase in ("switching", "soaking")
            and self.backend.server in rollout.batch
            and self.backend.role == "live"
            and self.backend.spec == rollout.target
        )

    @property
    def rollout_label(self) -> str:
        """The rollout that a container started now would belong to."""
        return self.rollout.id if self.rollout is not None else ""

    @property
    def revision(self) -> str:
        """The config revision whose spec the instance runs."""
        live, rollout = self.state.live, self.rollout
        if rollout is not None and self.backend.spec == rollout.target:
            return rollout.revision
        for other in self.state.others:
            if self.backend.spec == other.spec:
                return other.revision
        return live.revision if live is not None else ""


def newcomer(desired: Desired, cluster: ClusterState | None, server: str) -> bool:
    """Whether the decision does not know this server yet: nothing is asked of it, and it says what runs on it."""
    return cluster is None or (server not in cluster.members and server in desired.servers)


@lately
def wanted(desired: Desired, cluster: ClusterState, observed: Observed) -> tuple[Wanted, ...]:
    """Live instances first, then staged ones; draining ones are not wanted, only tolerated."""
    found = []
    for name, state in sorted(cluster.services.items()):
        key = ServiceKey.parse(name)
        for backend in state.backends:
            if backend.server == observed.server and backend.role != "draining":
                found.append(_wanted(desired, key, state, backend))
    return tuple(sorted(found, key=lambda w: (w.backend.role != "live", w.instance)))


def preparing(
    desired: Desired, cluster: ClusterState, server: str
) -> tuple[tuple[ServiceKey, ServiceState, str, Build | None], ...]:
    """Images that a recreate's staging asks this server to have before anything is stopped: (key, state, reference, build)."""
    found = []
    for name, state in sorted(cluster.services.items()):
        rollout = state.rollout
        if rollout is None or rollout.strategy != "recreate" or rollout.phase != "staging":
            continue
        if not any(b.server == server and b.role == "live" for b in state.backends):
            continue
        if rollout.scope is not None and server not in rollout.scope:
            continue
        key = ServiceKey.parse(name)
        service = desired.service_at(key, rollout.target)
        if service is not None:
            reference, build = image_of(service, rollout.image)
            found.append((key, state, reference, build))
    return tuple(found)


def matches(want: Wanted, container: Container) -> bool:
    """Whether a container is what the decision wants in its place, apart from changes made by hand.

    A gated instance must have been started for this very rollout. What is the server's own part (contents of secrets) is not
    looked at: it changes by a rollout only, and a staged instance may have been voted for, and be live, before this server knows.
    """
    if container.labels.spec != want.backend.spec:
        return False
    return not want.gated or container.labels.rollout == want.rollout_label


def image_of(service: DesiredService, resolved: str | None) -> tuple[str, Build | None]:
    """The reference to run and, for an image built from the config repository, what to build it from."""
    if service.spec.build is not None:
        return service.spec.build.tag, service.spec.build
    return resolved or service.spec.image or "", None


def _wanted(desired: Desired, key: ServiceKey, state: ServiceState, backend: Backend) -> Wanted:
    service = desired.service_at(key, backend.spec)
    rollout, live = state.rollout, state.live
    resolved = None
    if rollout is not None and backend.spec == rollout.target and rollout.image:
        resolved = rollout.image
    else:
        versions = (*((live,) if live is not None else ()), *state.others)
        resolved = next((version.image for version in versions if version.spec == backend.spec), None)
    reference, build = image_of(service, resolved) if service is not None else (resolved or "", None)
    return Wanted(
        instance=key.instance(backend.slot, backend.replica),
        backend=backend,
        state=state,
        service=service,
        image=reference,
        build=build,
    )
