"""What every nginx of this server is to do, from the decision (DESIGN section 4): listeners and public routes to upstreams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.model.cluster import ClusterState, ServiceState
from reconciler.model.desired import Desired, DesiredService
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Observed
from reconciler.model.routes import Listener, NginxConfig, Route, Upstream
from reconciler.model.site import Site
from reconciler.plan.upstreams import Reachable, decided_services

MESH_SHUTDOWN = 86400.0
"""Seconds that an old worker of the mesh may go on carrying its connections, such as a database pool's: a reload for the sake of
one service must not cut what another one is using. There are at most as many such workers as there are generations in which
connections that are still open were opened."""


def edge_routes(reach: Reachable) -> bool:
    """Whether the edge has anything to route, so that there is an `edge_config`."""
    desired = reach.desired
    routed = (_live_service(desired, key, state) or desired.services.get(key) for key, state in reach.services())
    return any(public.hosts for service in routed if service is not None for public in service.public)


def edge_config(reach: Reachable, site: Site) -> NginxConfig | None:
    """The edge's configuration; None when nothing is public."""
    desired = reach.desired
    routes, upstreams = [], {}
    edge = next((c for c in reach.observed.containers if c.labels.role == "edge" and c.running), None)
    for key, state in reach.services():
        service = _live_service(desired, key, state) or desired.services.get(key)
        if service is None or not service.public:
            continue
        # One that is about to be started is on the network of every project that it routes to.
        upstream = reach.upstream(key, state, by_name=True, joined=edge is None or key.network in edge.networks)
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


def host_listens(reach: Reachable, site: Site) -> bool:
    """Whether the host listener has anybody to lead to, so that there is a `host_config`."""
    free = ((key, state) for key, state in reach.services() if state.internal_port not in (0, *reach.observed.busy_loopback))
    return site.host_listener and any(reach.upstream(key, state, by_name=False) is not None for key, state in free)


def host_collisions(cluster: ClusterState, observed: Observed) -> Mapping[str, tuple[int, str]]:
    """Service key -> its port on the host's loopback and who has it instead, for a warning."""
    first: dict[int, str] = {}
    lost = {}
    for key, state in decided_services(cluster):
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


def _live_service(desired: Desired, key: ServiceKey, state: ServiceState) -> DesiredService | None:
    return desired.service_at(key, state.live.spec) if state.live is not None else None


def _needs(consumer: DesiredService, provider: ServiceKey) -> bool:
    """Given: those. Not given: every other service of the same project and environment (DESIGN section 3, Needs)."""
    if consumer.spec.needs is not None:
        return any(needed == provider for _, needed in consumer.spec.needs)
    same = (provider.project, provider.env) == (consumer.key.project, consumer.key.env)
    return same and provider != consumer.key


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
