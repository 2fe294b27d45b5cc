"""Upstreams as one server reaches them, from the decision (DESIGN section 4).

single_server: upstreams are container names and container ports; the other slot's fixed address stands behind as backup.
multi_server: other servers' instances are `address:host_port`, a server's own ones their fixed addresses and container ports
(docs/decisions/0011); the other slot and other zones' backends stand behind as backup.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from reconciler.model.cluster import Backend, ClusterState, ServiceState
from reconciler.model.desired import Desired
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Observed
from reconciler.model.routes import Peer, Upstream
from reconciler.plan.placed import beside
from reconciler.ports import SECONDARY_OFFSET


@dataclass
class Reachable:
    """Upstreams as this server reaches them, each worked out once, as every nginx asks for most of them.

    assume_up: as if every live instance ran, so that all are written by name.
    """

    desired: Desired
    cluster: ClusterState
    observed: Observed
    assume_up: bool = False
    _known: dict[tuple[str, bool, bool], Upstream | None] = field(default_factory=dict)

    def services(self) -> Iterable[tuple[ServiceKey, ServiceState]]:
        """What the decision knows, sorted."""
        return decided_services(self.cluster)

    def upstream(self, key: ServiceKey, state: ServiceState, *, by_name: bool, joined: bool = True) -> Upstream | None:
        """The live backends and what stands behind them; None when there is no live backend that this server can reach.

        joined: whether the nginx that asks reaches the addresses of the service's project network.
        """
        asked = (str(key), by_name, joined)
        if asked not in self._known:
            self._known[asked] = self._upstream(key, state, by_name, joined)
        return self._known[asked]

    def live(self, key: ServiceKey, state: ServiceState) -> Iterable[tuple[Backend, str | None]]:
        """The live backends with the address at which this server reaches each; None for one that it does not reach."""
        for backend in state.backends:
            if backend.role == "live":
                reached = self._reached(key, state, backend, by_name=False, joined=True)
                yield backend, reached[0] if reached is not None else None

    def _upstream(self, key: ServiceKey, state: ServiceState, by_name: bool, joined: bool) -> Upstream | None:
        """Backends of other zones stand behind those of this server's own, if there are any (docs/decisions/0006)."""
        if self._out_of_reach(state):
            return None
        near: list[Peer] = []
        far: list[Peer] = []
        slots: list[Peer] = []
        for backend in sorted(state.backends, key=lambda b: (b.server, b.replica, b.slot)):
            reached = self._reached(key, state, backend, by_name, joined) if backend.role == "live" else None
            if reached is None:
                continue
            live, other = reached
            (near if self._here(backend) else far).append(Peer(address=live))
            service = self.desired.service_at(key, backend.spec)
            toggles = service is None or (not service.stateful and service.strategy != "recreate")
            if toggles and other is not None:
                slots.append(Peer(address=other, backup=True))
        if near:
            far = [peer.model_copy(update={"backup": True, "live": True}) for peer in far]
        if not near and not far:
            return None
        return Upstream(name=upstream_name(key), peers=(*near, *far, *slots))

    def _out_of_reach(self, state: ServiceState) -> bool:
        """Whether the live version is not published, and on other servers alone.

        A rolling rollout publishes server by server and may go back: only at its end does anybody get a route who had none.
        """
        spec = state.live.spec if state.live is not None else None
        live = [b for b in state.backends if b.role in ("live", "kept") and b.spec == spec]
        return any(b.port is None for b in live) and all(b.server != self.observed.server for b in live)

    def _reached(
        self, key: ServiceKey, state: ServiceState, backend: Backend, by_name: bool, joined: bool
    ) -> tuple[str, str | None] | None:
        """The address of a live backend and that of the other slot, each with its own port; None for what cannot be reached."""
        past = beside(state, backend)
        if backend.port is None:
            port = self._port(key, state, backend)
            behind = self._port(key, state, past) if past is not None else port
            return _local(key, backend, port, behind, self.observed, by_name=by_name, assume_up=self.assume_up)
        own = self._own(key, state, backend, past) if joined else None
        if own is not None or self._is_gone(key, backend):
            return own
        reached = _published(self.desired, self.cluster, backend)
        if reached is None or past is None:
            return reached
        # A slot that was made before its service was published is reached by nobody else than its own server.
        return reached[0], f"{reached[0].rpartition(':')[0]}:{past.port}" if past.port is not None else None

    def _own(self, key: ServiceKey, state: ServiceState, backend: Backend, past: Backend | None) -> tuple[str, str | None] | None:
        """A published instance of this server at its fixed address; None when it is another's, or has none that is known.

        Not at its host port: Docker's forwarder accepts a connection also while nobody listens behind it (docs/decisions/0011).
        """
        port = self._known_port(key, backend)
        if backend.server != self.observed.server or port is None:
            return None
        instance = key.instance(backend.slot, backend.replica)
        owner = self.observed.of(instance, "sidecar") or self.observed.of(instance)
        if owner is not None and owner.labels.addresses != self.observed.pair(key, backend.replica):
            return None
        behind = self._port(key, state, past) if past is not None else port
        return _local(key, backend, port, behind, self.observed, by_name=False, assume_up=False)

    def _is_gone(self, key: ServiceKey, backend: Backend) -> bool:
        """Whether a backend of this server has neither containers nor an address that anybody remembers.

        Its host port is nobody's then, and while it is being put back nobody listens behind it.
        """
        instance = key.instance(backend.slot, backend.replica)
        there = self.observed.of(instance, "sidecar") or self.observed.of(instance)
        return backend.server == self.observed.server and there is None and self.observed.pair(key, backend.replica) is None

    def _port(self, key: ServiceKey, state: ServiceState, backend: Backend) -> int:
        """What an instance listens on; what is live does, where nothing is known of its version."""
        return self._known_port(key, backend) or state.container_port

    def _known_port(self, key: ServiceKey, backend: Backend) -> int | None:
        if backend.container_port is not None:
            return backend.container_port
        service = self.desired.service_at(key, backend.spec)
        return service.spec.port if service is not None else None

    def _here(self, backend: Backend) -> bool:
        """Whether a backend is in this server's zone. A server that the inventory does not know has no zone to prefer."""
        own, its = (self.desired.servers.get(name) for name in (self.observed.server, backend.server))
        return own is None or its is None or own.zone == its.zone


def all_run(cluster: ClusterState, observed: Observed) -> bool:
    """Whether every live instance of this server runs: then `assume_up` makes no difference."""
    for key, state in decided_services(cluster):
        for backend in state.backends:
            if backend.role == "live" and backend.server == observed.server and backend.port is None:
                instance = key.instance(backend.slot, backend.replica)
                owner = observed.of(instance, "sidecar") or observed.of(instance)
                if owner is None or not owner.running:
                    return False
    return True


def upstream_name(key: ServiceKey) -> str:
    """The name of a service's upstream in every nginx."""
    return f"{key.project}_{key.env}_{key.service}"


def decided_services(cluster: ClusterState) -> Iterable[tuple[ServiceKey, ServiceState]]:
    """What the decision knows, sorted."""
    return ((ServiceKey.parse(name), state) for name, state in sorted(cluster.services.items()))


def _local(
    key: ServiceKey, backend: Backend, port: int, behind: int, observed: Observed, *, by_name: bool, assume_up: bool
) -> tuple[str, str | None] | None:
    """By name, or by the slot's fixed address. `behind`: the port in the other slot."""
    if backend.server != observed.server:
        return None
    instance = key.instance(backend.slot, backend.replica)
    pair = observed.pair(key, backend.replica)
    owner = observed.of(instance, "sidecar") or observed.of(instance)
    other = f"{pair[0] if backend.slot == 'secondary' else pair[1]}:{behind}" if pair else None
    if by_name and (assume_up or (owner is not None and owner.running)):
        return f"{instance.name}:{port}", other
    if pair is None:
        return None
    return f"{pair[0] if backend.slot == 'primary' else pair[1]}:{port}", other


def _published(desired: Desired, cluster: ClusterState, backend: Backend) -> tuple[str, str | None] | None:
    server = desired.servers.get(backend.server)
    address = server.address if server is not None else cluster.addresses.get(backend.server)
    if address is None or backend.port is None:
        return None
    other = backend.port + (SECONDARY_OFFSET if backend.slot == "primary" else -SECONDARY_OFFSET)
    return f"{address}:{backend.port}", f"{address}:{other}"
