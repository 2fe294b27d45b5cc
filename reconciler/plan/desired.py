"""From the files of a config revision to `Desired`: read, fill in, check, place. The same path serves `reconcile validate`.

A project whose file is invalid stays as it was at its last valid revision; invalid never means removed (DESIGN section 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.errors import Invalid, Problem
from reconciler.model.config import ROLLING
from reconciler.model.desired import Desired, DesiredService, Drain, PublicRoute, Revision, Rolling, ServerEntry
from reconciler.model.identity import ServiceKey
from reconciler.model.inventory import RolloutDefaults
from reconciler.model.policy import Policy
from reconciler.model.source import Files
from reconciler.plan.checks import project_problems
from reconciler.plan.claims import conflicts, network_names
from reconciler.plan.placement import place
from reconciler.plan.service import Service, derive
from reconciler.plan.sources import CLUSTER_FILE, ROOT, ProjectAt, Sources, read_sources
from reconciler.plan.spec import container_spec

_DEFAULTS = RolloutDefaults()


@dataclass(frozen=True)
class Inventory:
    """The servers to place on. `alone`: there is no cluster.yaml, so this one server is every zone."""

    servers: Mapping[str, ServerEntry]
    defaults: RolloutDefaults = _DEFAULTS
    allow_removals: tuple[str, ...] = ()
    alone: bool = False


@dataclass
class _Resolution:
    """Everything found so far."""

    sources: Sources
    inventory: Inventory
    services: dict[ServiceKey, DesiredService] = field(default_factory=dict)
    invalid: dict[str, list[Problem]] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)
    kept: set[ServiceKey] = field(default_factory=set)


def resolve(files: Files, server: str, policy: Policy, revision: Revision, previous: Desired | None = None) -> Desired:
    """The desired state at `revision` as `server` sees it.

    `files`: the whole tree by path; the bytes of YAML, JSON and Dockerfiles have to be there. `policy`: what this server allows.
    `previous`: what was desired before, for what is invalid now; carried from revision to revision it holds the last valid state
    of each project. Raises Invalid when the inventory cannot be read and no previous one is known: nothing can be placed then.
    """
    sources = read_sources(files)
    problems = [*sources.cluster_problems, *_lost_inventory(sources, previous)]
    if problems and previous is None:
        raise Invalid(problems)
    inventory = _inventory(sources, server, previous if problems else None)
    found = _resolution(sources, inventory, files, policy, previous)
    if problems:
        found.invalid[CLUSTER_FILE] = problems
    return Desired(
        revision=revision,
        servers=inventory.servers,
        services=dict(sorted(found.services.items())),
        invalid={name: tuple(sorted(set(problems))) for name, problems in sorted(found.invalid.items())},
        warnings=tuple(sorted(set(found.warnings))),
        allow_removals=inventory.allow_removals,
        ack_timeout=inventory.defaults.ack_timeout,
    )


def validate(files: Files, policy: Policy, server: str | None = None) -> list[Problem]:
    """Every problem of the files, in their order; also what would only stall at run time, such as too few servers in a zone.

    `server` is the name of the one server when there is no cluster.yaml; None when that is not known (in CI).
    """
    sources = read_sources(files)
    inventory = _inventory(sources, server or "", None)
    found = _resolution(sources, inventory, files, policy, None, known=server is not None or sources.cluster is not None)
    stalled = [
        project.problem(f"{service.key.service}: {why}", service.key.service)
        for project in sources.projects.values()
        for service in _services(project, files).values()
        if (why := _servers(service, inventory)[1]) is not None
    ]
    return sorted({*sources.cluster_problems, *stalled, *(problem for problems in found.invalid.values() for problem in problems)})


def library(files: Files, key: ServiceKey, server: str, policy: Policy) -> tuple[DesiredService, ...]:
    """The service as another revision's files describe it, in both backend modes; empty if that revision has no valid one.

    For `Desired.library`: what is live keeps its specification although the config moved on. What the server's policy allows
    today does not matter to what runs already.
    """
    sources = read_sources(files)
    project = sources.projects.get(f"{key.project}/{key.env}")
    if project is None or key.service not in project.source.services:
        return ()
    services = _services(project, files)
    service = services[key]
    needed = {provider for _, provider in service.needs or ()}
    if not service.port or not needed <= set(services):
        return ()
    inventory = _inventory(sources, server, None)
    warnings: list[Problem] = []
    return tuple(_placed(project, services, service, inventory, warnings, publish) for publish in (False, True))


def _resolution(
    sources: Sources, inventory: Inventory, files: Files, policy: Policy, previous: Desired | None, known: bool = True
) -> _Resolution:
    found = _Resolution(sources, inventory, invalid={name: list(problems) for name, problems in sources.invalid.items()})
    for name, project in sorted(sources.projects.items()):
        services = _services(project, files)
        problems = project_problems(project, services, files, policy, inventory.servers if known else None)
        if problems:
            found.invalid.setdefault(name, []).extend(problems)
        if name in found.invalid:
            continue
        modes = _modes(services, inventory)
        for key, service in services.items():
            found.services[key] = _placed(project, services, service, inventory, found.warnings, modes[key])
    _keep(found, previous)
    held = previous.services.values() if previous is not None else ()
    for key, why in [*conflicts(found.services.values(), held), *network_names(found.services)]:
        if key not in found.kept:
            found.invalid.setdefault(f"{key.project}/{key.env}", []).append(_at(sources, key, f"{key.service}: {why}"))
    _keep(found, previous)
    return found


def _keep(found: _Resolution, previous: Desired | None) -> None:
    """Put the last valid services in the place of invalid projects' ones."""
    for key in [key for key in found.services if key not in found.kept and _covered(key, found.invalid)]:
        del found.services[key]
    for key, service in previous.services.items() if previous is not None else ():
        if key not in found.services and _covered(key, found.invalid):
            found.services[key] = service
            found.kept.add(key)


def _covered(key: ServiceKey, invalid: Mapping[str, object]) -> bool:
    return any(name in invalid for name in (f"{key.project}/{key.env}", key.project, ROOT))


def _services(project: ProjectAt, files: Files) -> dict[ServiceKey, Service]:
    derived = (derive(project, name, files) for name in sorted(project.source.services))
    return {service.key: service for service in derived}


def _placed(
    project: ProjectAt,
    services: Mapping[ServiceKey, Service],
    service: Service,
    inventory: Inventory,
    warnings: list[Problem],
    publish: bool,
) -> DesiredService:
    source, key = service.source, service.key
    servers, stalled = _servers(service, inventory)
    warnings += _warnings(project, service, inventory)
    rollout = source.rollout
    deadline = rollout.progress_deadline if rollout is not None else None
    return DesiredService(
        key=key,
        spec=container_spec(service, services, publish),
        strategy=service.strategy,
        rolling=Rolling.model_validate(rollout.model_dump(include=set(ROLLING))) if rollout is not None else Rolling(),
        replicas=source.replicas,
        servers=servers,
        pinned=source.servers is not None,
        stateful=service.stateful,
        rollback_image=rollout is not None and rollout.rollback == "image",
        internal_port=service.internal_port,
        public=tuple(
            PublicRoute(
                hosts=entry.hosts or ("_",),
                path=entry.path,
                rewrite=entry.rewrite,
                read_timeout=entry.read_timeout,
                body_limit=entry.body_limit,
            )
            for entry in source.public or ()
        ),
        drain=Drain.model_validate(source.drain.model_dump()) if source.drain else Drain(),
        suspend=source.suspend or project.source.suspend,
        progress_deadline=deadline or inventory.defaults.progress_deadline,
        stalled=stalled,
        homeless=stalled is not None and not service.open_volumes,
    )


def _servers(service: Service, inventory: Inventory) -> tuple[tuple[str, ...], str | None]:
    """Where a service is placed, and why it cannot be placed or started as asked."""
    servers, why = _placement(service, inventory)
    if service.open_volumes:
        paths = ", ".join(service.open_volumes)
        why = f"its image declares the volume {paths}; name it under volumes:, or write stateless: true if the data may go"
    return servers, why


def _placement(service: Service, inventory: Inventory) -> tuple[tuple[str, ...], str | None]:
    source = service.source
    if inventory.alone:
        return tuple(inventory.servers), None
    if source.servers is not None:
        pins = {name for name in source.servers if name in inventory.servers}
        drained = sorted(name for name in pins if inventory.servers[name].state == "drained")
        if drained and (service.stateful or len(drained) == len(pins)):
            why = f"it is pinned to {', '.join(drained)}, which is drained; name another under servers:"
            return tuple(sorted(pins)), why
        return tuple(sorted(pins - set(drained))), None
    placement = place(service.key, source.servers_count, source.server_zone, inventory.servers.values())
    if placement.missing:
        zone = f"zone {source.server_zone}" if source.server_zone else "the cluster"
        count = len(placement.servers)
        return placement.servers, f"servers_count is {source.servers_count}, but {zone} has {count} active; lower it or add servers"
    return placement.servers, None


def _modes(services: Mapping[ServiceKey, Service], inventory: Inventory) -> dict[ServiceKey, bool]:
    """Whether each service publishes a host port: it and everyone who calls it are on more than one server (DESIGN section 4).

    Host listeners and edges of a zone's servers may call every service of the zone, also while a server is drained, so that
    draining one does not change the mode of all.
    """
    placed = {key: set(_servers(service, inventory)[0]) or _zone(service, inventory) for key, service in services.items()}
    modes: dict[ServiceKey, bool] = {}
    for key, service in services.items():
        if service.stateful and placed[key] and all(inventory.servers[name].address for name in placed[key]):
            modes[key] = True
            continue
        zones = {inventory.servers[name].zone for name in placed[key]}
        span = placed[key] | {name for name, entry in inventory.servers.items() if entry.zone in zones}
        for consumer in services.values():
            if consumer.sidecar and consumer.consumes(key):
                span |= placed[consumer.key]
        modes[key] = len(span) > 1
    return modes


def _zone(service: Service, inventory: Inventory) -> set[str]:
    """Where it was placed before every server of its zone was drained: what stays there keeps its mode."""
    zone = service.source.server_zone
    return {name for name, entry in inventory.servers.items() if zone in (None, entry.zone)}


def _warnings(project: ProjectAt, service: Service, inventory: Inventory) -> Iterator[Problem]:
    name, count = service.key.service, service.source.servers_count
    if service.stateful and count > 1:
        yield project.problem(
            f"{name}: servers_count is {count} and it keeps data: these are independent copies, nothing keeps them equal",
            name,
            "servers_count",
        )
    if inventory.alone and count > 1:
        yield project.problem(
            f"{name}: servers_count is {count}, but there is no cluster.yaml; it is placed on this one server",
            name,
            "servers_count",
        )


def _lost_inventory(sources: Sources, previous: Desired | None) -> list[Problem]:
    """A cluster.yaml that vanished would make every server believe that it is alone."""
    if sources.cluster_document is not None or sources.cluster_problems or previous is None or len(previous.servers) < 2:
        return []
    return [
        Problem(CLUSTER_FILE, 0, 0, "the file is gone; the last inventory is kept. Put it back, or leave one server in it first")
    ]


def _inventory(sources: Sources, server: str, previous: Desired | None) -> Inventory:
    if previous is not None:
        return Inventory(previous.servers, RolloutDefaults(ack_timeout=previous.ack_timeout), previous.allow_removals)
    if sources.cluster is None:
        return Inventory({server: ServerEntry(name=server)}, alone=True)
    cluster = sources.cluster
    servers = {
        name: ServerEntry(name=name, address=entry.address, zone=entry.zone, state=entry.state)
        for name, entry in cluster.servers.items()
    }
    return Inventory(dict(sorted(servers.items())), cluster.rollout, cluster.allow_removals)


def _at(sources: Sources, key: ServiceKey, message: str) -> Problem:
    return sources.projects[f"{key.project}/{key.env}"].problem(message, key.service)
