"""What every nginx of this server is to do, from the decision (DESIGN section 4).

single_server: upstreams are container names and container ports; the other slot's fixed address stands behind as backup.
multi_server: upstreams are `address:host_port`; the other slot's port and other zones' backends stand behind as backup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.model.cluster import Backend, ClusterState, ServiceState
from reconciler.model.desired import Desired, DesiredService
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Observed
from reconciler.model.routes import Listener, NginxConfig, Peer, Route, Upstream
from reconciler.model.site import Site
from reconciler.ports import SECONDARY_OFFSET

MESH_SHUTDOWN = 86400.0
"""Seconds that an old worker of the mesh may go on carrying its connections, such as a database pool's: a reload for the sake of
one service must not cut what another one is using. There are at most as many such workers as there are generations in which
connections that are still open were opened."""


@dataclass
class Reachable:
    """Upstreams as this server reaches them, each worked out once, as every nginx asks for most of them.

    assume_up: as if every live instance ran, so that all are written by name.
    """

    desired: Desired
    cluster: ClusterState
    observed: Observed
    assume_up: bool = False
    _known: dict[tuple[str, bool], Upstream | None] = field(default_factory=dict)

    def services(self) -> Iterable[tuple[ServiceKey, ServiceState]]:
        """What the decision knows, sorted."""
        return _services(self.cluster)

    def upstream(self, key: ServiceKey, state: ServiceState, *, by_name: bool) -> Upstream | None:
        """The live backends and what stands behind them; None when there is no live backend that this server can reach."""
        asked = (str(key), by_name)
        if asked not in self._known:
            self._known[asked] = self._upstream(key, state, by_name)
        return self._known[asked]

    def live(self, key: ServiceKey, state: ServiceState) -> Iterable[tuple[Backend, str | None]]:
        """The live backends with the address at which this server reaches each; None for one that it does not reach."""
        for backend in state.backends:
            if backend.role == "live":
                reached = self._reached(key, state, backend, by_name=False)
                yield backend, reached[0] if reached is not None else None

    def _upstream(self, key: ServiceKey, state: ServiceState, by_name: bool) -> Upstream | None:
        """Backends of other zones stand behind those of this server's own, if there are any (docs/decisions/0006)."""
        near: list[Peer] = []
        far: list[Peer] = []
        slots: list[Peer] = []
        for backend in sorted(state.backends, key=lambda b: (b.server, b.replica, b.slot)):
            reached = self._reached(key, state, backend, by_name) if backend.role == "live" else None
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

    def _reached(self, key: ServiceKey, state: ServiceState, backend: Backend, by_name: bool) -> tuple[str, str | None] | None:
        if backend.port is not None:
            return _published(self.desired, self.cluster, backend)
        service = self.desired.service_at(key, backend.spec)
        port = service.spec.port if service is not None else state.container_port
        return _local(key, backend, port, self.observed, by_name=by_name, assume_up=self.assume_up)

    def _here(self, backend: Backend) -> bool:
        """Whether a backend is in this server's zone. A server that the inventory does not know has no zone to prefer."""
        own, its = (self.desired.servers.get(name) for name in (self.observed.server, backend.server))
        return own is None or its is None or own.zone == its.zone


def all_run(cluster: ClusterState, observed: Observed) -> bool:
    """Whether every live instance of this server runs: then `assume_up` makes no difference."""
    for key, state in _services(cluster):
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


def edge_config(reach: Reachable, site: Site) -> NginxConfig | None:
    """The edge's configuration; None when nothing is public."""
    desired = reach.desired
    routes, upstreams = [], {}
    for key, state in reach.services():
        service = _live_service(desired, key, state) or desired.services.get(key)
        if service is None or not service.public:
            continue
        upstream = reach.upstream(key, state, by_name=True)
        if upstream is not None:
            upstreams[upstream.name] = upstream
        for public in service.public:
            for host in public.hosts:
                routes.append(
                    Route(
                        host=host,
                        path=public.path,
                        rewrite=public.rewrite,
                        upstream=upstream.name if upstream else None,
                        service=str(key),
                        read_timeout=public.read_timeout,
                        body_limit=public.body_limit,
                    )
                )
    if not routes:
        return None
    return NginxConfig(
        kind="edge",
        name=site.edge_name,
        shutdown_timeout=site.edge_shutdown_timeout,
        generation_port=site.generation_port,
        http_ports=site.edge_ports,
        upstreams=tuple(upstreams[name] for name in sorted(upstreams)),
        routes=_one_for_each_place(routes, desired),
    )


def _one_for_each_place(routes: list[Route], desired: Desired) -> tuple[Route, ...]:
    """A host and path has one route, or nginx would have to take one of two. While a place goes from one service to another, both
    may have it: what has a live backend goes before what has none, then what the config names now, then the first by name."""

    def rank(route: Route) -> tuple[bool, bool, str]:
        service = desired.services.get(ServiceKey.parse(route.service))
        named = service is not None and any(route.host in p.hosts and p.path == route.path for p in service.public)
        return route.upstream is None, not named, route.service

    chosen: dict[tuple[str, str], Route] = {}
    for route in sorted(routes, key=rank):
        chosen.setdefault((route.host, route.path.rstrip("/")), route)
    return tuple(sorted(chosen.values(), key=lambda route: (route.host, route.path, route.service)))


def host_config(reach: Reachable, site: Site) -> NginxConfig | None:
    """The host listener's configuration, upstreams by address; None when it is switched off or nothing is there to reach.

    Two services whose internal ports coincide on the host's loopback: the first by name has it; a port that a stranger has is left
    out, as nginx would refuse the whole configuration (DESIGN section 3).
    """
    if not site.host_listener:
        return None
    listeners: dict[int, Listener] = {}
    upstreams = {}
    for key, state in reach.services():
        upstream = reach.upstream(key, state, by_name=False)
        port = state.internal_port
        free = port and port not in listeners and port not in reach.observed.busy_loopback
        if upstream is not None and free:
            listeners[port] = Listener(port=port, upstream=upstream.name)
            upstreams[upstream.name] = upstream
    if not listeners:
        return None
    return _stream_config("host", site.host_name, site.host_generation_port, listeners.values(), upstreams.values())


def host_collisions(cluster: ClusterState, observed: Observed) -> Mapping[str, tuple[int, str]]:
    """Service key -> its port on the host's loopback and who has it instead, for a warning."""
    first: dict[int, str] = {}
    lost = {}
    for key, state in _services(cluster):
        holder = first.setdefault(state.internal_port, str(key))
        if state.internal_port in observed.busy_loopback:
            holder = "another process"
        if state.internal_port and holder != str(key):
            lost[str(key)] = (state.internal_port, holder)
    return lost


def sidecar_config(reach: Reachable, site: Site, instance: InstanceKey, service: DesiredService) -> NginxConfig:
    """The sidecar's configuration of one instance: a listener for everything it needs that has a live backend."""
    listeners: dict[int, Listener] = {}
    upstreams = {}
    for key, state in reach.services():
        if not _needs(service, key):
            continue
        upstream = reach.upstream(key, state, by_name=True)
        free = state.internal_port not in (service.spec.port, site.generation_port, 0)
        if upstream is not None and free and state.internal_port not in listeners:
            listeners[state.internal_port] = Listener(port=state.internal_port, upstream=upstream.name)
            upstreams[upstream.name] = upstream
    return _stream_config("sidecar", instance.sidecar, site.generation_port, listeners.values(), upstreams.values())


def _services(cluster: ClusterState) -> Iterable[tuple[ServiceKey, ServiceState]]:
    return ((ServiceKey.parse(name), state) for name, state in sorted(cluster.services.items()))


def _live_service(desired: Desired, key: ServiceKey, state: ServiceState) -> DesiredService | None:
    return desired.service_at(key, state.live.spec) if state.live is not None else None


def _needs(consumer: DesiredService, provider: ServiceKey) -> bool:
    """Given: those. Not given: every other service of the same project and environment (DESIGN section 3, Needs)."""
    if consumer.spec.needs is not None:
        return any(needed == provider for _, needed in consumer.spec.needs)
    same = (provider.project, provider.env) == (consumer.key.project, consumer.key.env)
    return same and provider != consumer.key


def _local(
    key: ServiceKey, backend: Backend, port: int, observed: Observed, *, by_name: bool, assume_up: bool
) -> tuple[str, str | None] | None:
    if backend.server != observed.server:
        return None
    instance = key.instance(backend.slot, backend.replica)
    pair = observed.pair(key, backend.replica)
    owner = observed.of(instance, "sidecar") or observed.of(instance)
    other = f"{pair[0] if backend.slot == 'secondary' else pair[1]}:{port}" if pair else None
    if by_name and (assume_up or (owner is not None and owner.running)):
        return f"{instance.name}:{port}", other
    if pair is None:
        return None
    return f"{pair[0] if backend.slot == 'primary' else pair[1]}:{port}", other


def _published(desired: Desired, cluster: ClusterState, backend: Backend) -> tuple[str, str] | None:
    server = desired.servers.get(backend.server)
    address = server.address if server is not None else cluster.addresses.get(backend.server)
    if address is None or backend.port is None:
        return None
    other = backend.port + (SECONDARY_OFFSET if backend.slot == "primary" else -SECONDARY_OFFSET)
    return f"{address}:{backend.port}", f"{address}:{other}"


def _stream_config(
    kind: str, name: str, generation_port: int, listeners: Iterable[Listener], upstreams: Iterable[Upstream]
) -> NginxConfig:
    return NginxConfig.model_validate(
        {
            "kind": kind,
            "name": name,
            "shutdown_timeout": MESH_SHUTDOWN,
            "generation_port": generation_port,
            "listeners": tuple(sorted(listeners, key=lambda listener: listener.port)),
            "upstreams": tuple(sorted(upstreams, key=lambda upstream: upstream.name)),
        }
    )
