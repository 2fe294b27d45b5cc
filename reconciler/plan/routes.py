"""What every nginx of this server is to do, from the decision (DESIGN section 4).

single_server: upstreams are container names and container ports; the other slot's fixed address stands behind as backup.
multi_server: upstreams are `address:host_port`; the other slot's port stands behind as backup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.model.cluster import Backend, ClusterState, ServiceState
from reconciler.model.container import Labels
from reconciler.model.desired import Desired, DesiredService
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Observed
from reconciler.model.routes import Listener, NginxConfig, Peer, Route, Upstream
from reconciler.model.site import Site
from reconciler.plan.addresses import Pair
from reconciler.ports import SECONDARY_OFFSET

MESH_SHUTDOWN = 86400.0
"""Seconds that an old worker of the mesh may go on carrying its connections, such as a database pool's: a reload for the sake of
one service must not cut what another one is using. There are at most as many such workers as there are generations in which
connections that are still open were opened."""


def edge_config(
    desired: Desired, cluster: ClusterState, observed: Observed, site: Site, *, assume_up: bool = False
) -> NginxConfig | None:
    """The edge's configuration; None when nothing is public. `assume_up`: as if every live instance ran."""
    routes, upstreams = [], {}
    for key, state in _services(cluster):
        service = _live_service(desired, key, state) or desired.services.get(key)
        if service is None or not service.public:
            continue
        upstream = _upstream(desired, key, state, observed, by_name=True, assume_up=assume_up)
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
        routes=tuple(sorted(routes, key=lambda route: (route.host, route.path, route.service))),
    )


def host_config(desired: Desired, cluster: ClusterState, observed: Observed, site: Site) -> NginxConfig | None:
    """The host listener's configuration, upstreams by address; None when it is switched off or nothing is there to reach.

    Two services whose internal ports coincide on the host's loopback: the first by name has it; a port that a stranger has is left
    out, as nginx would refuse the whole configuration (DESIGN section 3).
    """
    if not site.host_listener:
        return None
    listeners: dict[int, Listener] = {}
    upstreams = {}
    for key, state in _services(cluster):
        upstream = _upstream(desired, key, state, observed, by_name=False, assume_up=False)
        free = state.internal_port and state.internal_port not in listeners and state.internal_port not in observed.busy_loopback
        if upstream is not None and free:
            listeners[state.internal_port] = Listener(port=state.internal_port, upstream=upstream.name)
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


def sidecar_config(
    desired: Desired,
    cluster: ClusterState,
    observed: Observed,
    site: Site,
    instance: InstanceKey,
    service: DesiredService,
    *,
    assume_up: bool = False,
) -> NginxConfig:
    """The sidecar's configuration of one instance: a listener for everything it needs that has a live backend."""
    listeners: dict[int, Listener] = {}
    upstreams = {}
    for key, state in _services(cluster):
        if not _needs(service, key):
            continue
        upstream = _upstream(desired, key, state, observed, by_name=True, assume_up=assume_up)
        free = state.internal_port not in (service.spec.port, site.generation_port, 0)
        if upstream is not None and free and state.internal_port not in listeners:
            listeners[state.internal_port] = Listener(port=state.internal_port, upstream=upstream.name)
            upstreams[upstream.name] = upstream
    return _stream_config("sidecar", instance.sidecar, site.generation_port, listeners.values(), upstreams.values())


def recorded_pair(observed: Observed, key: ServiceKey, replica: int) -> Pair | None:
    """The addresses that a replica's containers carry in their labels, or carried when there last were any."""
    for container in observed.containers:
        labels: Labels = container.labels
        if labels.service == key and labels.replica == replica and labels.addresses is not None:
            return labels.addresses
    return observed.pairs.get(f"{key}#{replica}")


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


def _upstream(
    desired: Desired, key: ServiceKey, state: ServiceState, observed: Observed, *, by_name: bool, assume_up: bool
) -> Upstream | None:
    """The live backends and what stands behind them; None when there is no live backend that this server can reach."""
    peers: list[Peer] = []
    backups: list[Peer] = []
    for backend in sorted(state.backends, key=lambda b: (b.server, b.replica, b.slot)):
        if backend.role != "live":
            continue
        service = desired.service_at(key, backend.spec)
        toggles = service is None or (not service.stateful and service.strategy != "recreate")
        port = service.spec.port if service is not None else state.container_port
        if backend.port is None:
            local = _local(key, backend, port, observed, by_name=by_name, assume_up=assume_up)
        else:
            local = _published(desired, backend)
        if local is None:
            continue
        live, other = local
        peers.append(Peer(address=live))
        if toggles and other is not None:
            backups.append(Peer(address=other, backup=True))
    if not peers:
        return None
    return Upstream(name=f"{key.project}_{key.env}_{key.service}", peers=(*peers, *backups))


def _local(
    key: ServiceKey, backend: Backend, port: int, observed: Observed, *, by_name: bool, assume_up: bool
) -> tuple[str, str | None] | None:
    if backend.server != observed.server:
        return None
    instance = key.instance(backend.slot, backend.replica)
    pair = recorded_pair(observed, key, backend.replica)
    owner = observed.of(instance, "sidecar") or observed.of(instance)
    other = f"{pair[0] if backend.slot == 'secondary' else pair[1]}:{port}" if pair else None
    if by_name and (assume_up or (owner is not None and owner.running)):
        return f"{instance.name}:{port}", other
    if pair is None:
        return None
    return f"{pair[0] if backend.slot == 'primary' else pair[1]}:{port}", other


def _published(desired: Desired, backend: Backend) -> tuple[str, str] | None:
    server = desired.servers.get(backend.server)
    if server is None or server.address is None or backend.port is None:
        return None
    other = backend.port + (SECONDARY_OFFSET if backend.slot == "primary" else -SECONDARY_OFFSET)
    return f"{server.address}:{backend.port}", f"{server.address}:{other}"


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
