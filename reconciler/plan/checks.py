"""What a project's services must not say: each check yields its problems, at the line that has to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.errors import Problem
from reconciler.model.config import CHECKS, ROLLING
from reconciler.model.desired import ServerEntry
from reconciler.model.identity import ServiceKey
from reconciler.model.policy import DOCKER_SOCKETS, Policy, below
from reconciler.model.source import SUBMODULE, Files, obstacle
from reconciler.plan.service import Service, alias_variable
from reconciler.plan.sources import ROOT, ProjectAt

GENERATION_PORT = 4999
_FIRST, _LAST = 5000, 5999  # where internal ports are
_RESERVED_TARGETS = ("/proc", "/sys", "/dev", "/run/secrets")

Services = Mapping[ServiceKey, Service]


def project_problems(
    project: ProjectAt, services: Services, files: Files, policy: Policy, servers: Mapping[str, ServerEntry] | None
) -> list[Problem]:
    """Every problem of one project's services. `servers` None: the inventory is not known, so pins are not checked."""
    found: list[Problem] = []
    for service in services.values():
        found += _image(project, service, files)
        found += _mounts(project, service, policy)
        found += _privileges(project, service, policy)
        found += _state(project, service)
        found += _needs(project, service)
        found += _pins(project, service, servers)
    found += _listeners(project, services)
    found += _volumes(project, services)
    return found


def _image(project: ProjectAt, service: Service, files: Files) -> Iterator[Problem]:
    source, name = service.source, service.key.service
    if (source.image is None) == (source.dockerfile is None):
        yield project.problem(f"{name}: expected exactly one of image: and dockerfile:", name)
        return
    if source.health is not None and len(source.health.model_fields_set & set(CHECKS)) != 1:
        yield project.problem(f"{name}: expected exactly one of http:, tcp:, command: and docker: under health", name, "health")
    if source.dockerfile is not None:
        path = f"{ROOT}/{project.project}/{source.dockerfile}"
        if why := obstacle(files, path):
            yield project.problem(f"{name}: {why}", name, "dockerfile")
            return
        if path not in files:
            yield project.problem(f"{name}: {path} does not exist; add it or correct the name", name, "dockerfile")
            return
        if service.dockerfile is None:
            yield project.problem(f"{name}: {path} was not read: it is too large for a Dockerfile", name, "dockerfile")
            return
        for inner, mode, _ in service.build.files if service.build else ():
            if mode == SUBMODULE:
                yield project.problem(
                    f"{name}: {inner} in the build context is a submodule; put its files there", name, "dockerfile"
                )
    if len(service.ports) > 1:
        listed = ", ".join(map(str, service.ports))
        yield project.problem(f"{name}: the Dockerfile exposes several ports ({listed}); say which one with port:", name)
    elif not service.ports:
        why = "the Dockerfile has no EXPOSE" if source.dockerfile else f"the port of {source.image} is not known"
        yield project.problem(f"{name}: {why}; add port: with the port that it listens on", name)


def _mounts(project: ProjectAt, service: Service, policy: Policy) -> Iterator[Problem]:
    name, targets = service.key.service, set[str]()
    for path, volume in (service.source.volumes or {}).items():
        place = (name, "volumes", path)
        if path.startswith("/") and not policy.host_path(service.key, path):
            if path.endswith("docker.sock") or any(below(socket, path) for socket in DOCKER_SOCKETS):
                yield project.problem(f"{name}: {path} gives the Docker socket, which is root on the server; remove it", *place)
            else:
                own = f"/local/{project.project}/{project.env}/..."
                message = f"{name}: {path} is not below {own} (its secrets excepted), and the server's policy does not allow it"
                yield project.problem(message, *place)
        if volume.target == "/" or any(below(volume.target, reserved) for reserved in _RESERVED_TARGETS):
            yield project.problem(f"{name}: nothing may be mounted at {volume.target}; choose another target", *place)
        if volume.target in targets:
            yield project.problem(f"{name}: two volumes are mounted at {volume.target}; keep one", *place)
        targets.add(volume.target)
    for target in service.source.tmpfs or ():
        if target in targets or target == "/":
            yield project.problem(f"{name}: tmpfs at {target} is not possible beside what is mounted there", name, "tmpfs")


def _privileges(project: ProjectAt, service: Service, policy: Policy) -> Iterator[Problem]:
    name, source = service.key.service, service.source
    if source.privileged and not policy.privileged(service.key):
        message = f"{name}: privileged is refused; the server's policy would have to list {service.key} under allow_privileged"
        yield project.problem(message, name, "privileged")
    for capability in source.cap_add or ():
        if capability not in policy.allow_capabilities:
            message = f"{name}: {capability} is refused; the server's policy would have to list it under allow_capabilities"
            yield project.problem(message, name, "cap_add")


def _state(project: ProjectAt, service: Service) -> Iterator[Problem]:
    name, source = service.key.service, service.source
    rollout = source.rollout
    if service.stateful and service.strategy != "recreate":
        message = (
            f"{name}: {service.strategy} would have two processes on its data; write strategy: recreate,"
            " shared: true on its volumes if several may write, or stateless: true if the data may go"
        )
        yield project.problem(message, name, "rollout", "strategy")
    if service.stateful and source.replicas > 1:
        message = (
            f"{name}: {source.replicas} replicas would write to the same volume; write replicas: 1, or shared: true on its volumes"
        )
        yield project.problem(message, name, "replicas")
    for field in ROLLING if rollout is not None and service.strategy != "rolling" else ():
        if rollout is not None and field in rollout.model_fields_set:
            message = f"{name}: {field} is for strategy: rolling, and this is a {service.strategy}; remove it or the strategy"
            yield project.problem(message, name, "rollout", field)
    if rollout is not None and rollout.rollback is not None and service.strategy != "recreate":
        message = f"{name}: rollback is for strategy: recreate; a {service.strategy} goes back by itself"
        yield project.problem(message, name, "rollout", "rollback")


def _needs(project: ProjectAt, service: Service) -> Iterator[Problem]:
    name, given = service.key.service, service.source.env or {}
    variables: dict[str, str] = {}
    for alias, needed in (service.source.needs or {}).items():
        if needed not in project.declared:
            message = f'{name}: needs "{needed}", which is not a service of {project.name}; its services: {_list(project.declared)}'
            yield project.problem(message, name, "needs", alias)
        variable = alias_variable(alias)
        if variable in variables:
            message = f"{name}: the aliases {variables[variable]} and {alias} both give {variable}_HOST; rename one"
            yield project.problem(message, name, "needs", alias)
        variables[variable] = alias
        for end in ("HOST", "PORT"):
            if f"{variable}_{end}" in given:
                message = f"{name}: {variable}_{end} is set by needs and by env; remove one of them"
                yield project.problem(message, name, "env", f"{variable}_{end}")


def _pins(project: ProjectAt, service: Service, servers: Mapping[str, ServerEntry] | None) -> Iterator[Problem]:
    name, source = service.key.service, service.source
    for index, pin in enumerate(source.servers or ()):
        if servers is not None and pin not in servers:
            message = f'{name}: "{pin}" is not a server of cluster.yaml; its servers: {_list(servers)}'
            yield project.problem(message, name, "servers", index)
    if source.servers is not None and "servers_count" in source.model_fields_set and source.servers_count != len(source.servers):
        message = f"{name}: servers_count is {source.servers_count}, but servers names {len(source.servers)}; remove servers_count"
        yield project.problem(message, name, "servers_count")


def _listeners(project: ProjectAt, services: Services) -> Iterator[Problem]:
    """Collisions of ports inside one network namespace (FAULTS 58): applications compute these numbers, so a person decides."""
    busy = {GENERATION_PORT, *(s.internal_port for s in services.values()), *(s.port for s in services.values())}
    told: set[tuple[ServiceKey, str]] = set()
    for consumer in services.values():
        if not consumer.sidecar:
            continue
        taken = {consumer.port: f"the container port of {consumer.key.service}", GENERATION_PORT: "the reconciler's own port"}
        for provider in sorted(services.values(), key=lambda service: service.key):
            if not consumer.consumes(provider.key):
                continue
            other = taken.get(provider.internal_port)
            if other is not None and (provider.key, other) not in told:
                told.add((provider.key, other))
                free = _free(provider.internal_port, busy)
                message = (
                    f"{provider.key.service}: its internal port {provider.internal_port} is also {other}"
                    f" (in the network of {consumer.key.service}); write internal_port: {free} for {provider.key.service}"
                )
                place = "internal_port" if provider.source.internal_port else "port"
                yield project.problem(message, provider.key.service, *([place] if place == "internal_port" else []))
            taken.setdefault(provider.internal_port, f"the internal port of {provider.key.service}")


def _volumes(project: ProjectAt, services: Services) -> Iterator[Problem]:
    """One named volume written by two services is one service's data under another's hands."""
    writers: dict[str, Service] = {}
    for service in services.values():
        for mount in service.mounts:
            if mount.kind == "tmpfs" or mount.read_only or mount.shared:
                continue
            first = writers.setdefault(mount.source, service)
            if first is not service:
                message = (
                    f"{service.key.service}: {mount.source} is also written by {first.key.service}; give it another name,"
                    " or write shared: true on both if they mean to share it"
                )
                yield project.problem(message, service.key.service, "volumes")


def _free(port: int, busy: set[int]) -> int:
    """The next internal port nobody of the project has."""
    span = _LAST - _FIRST + 1
    candidates = (_FIRST + (port - _FIRST + step) % span for step in range(1, span + 1))
    return next((candidate for candidate in candidates if candidate not in busy), 0)


def _list(names: Mapping[str, object] | frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"
