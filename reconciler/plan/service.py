"""One service of a project file with its defaults filled in: port, mounts, needs, strategy, build context."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from reconciler.model.config import ROLLING, ServiceSource
from reconciler.model.desired import Build, Mount, Strategy
from reconciler.model.dockerfile import Dockerfile, read_dockerfile, read_sources
from reconciler.model.identity import ServiceKey
from reconciler.model.source import Files
from reconciler.model.wellknown import WellKnown, well_known
from reconciler.plan.sources import ROOT, ProjectAt, is_environment
from reconciler.ports import internal_port


@dataclass(frozen=True)
class Service:
    """What follows from one service's text and the table of well-known images, before placement.

    `ports` are the container ports in question: one is the port, none or several are a fault. `open_volumes` are paths that the
    image declares as VOLUME and nothing is mounted at.
    """

    key: ServiceKey
    source: ServiceSource
    known: WellKnown | None
    dockerfile: Dockerfile | None
    build: Build | None
    ports: tuple[int, ...]
    internal_port: int
    mounts: tuple[Mount, ...]
    open_volumes: tuple[str, ...]

    @property
    def port(self) -> int:
        """The container port; 0 while it is not known."""
        return self.ports[0] if len(self.ports) == 1 else 0

    @property
    def stateful(self) -> bool:
        """Whether a writable volume that is not shared holds something that must not go (DESIGN section 2)."""
        kept = [m for m in self.mounts if m.kind != "tmpfs" and not m.read_only and not m.shared]
        return bool(kept) and not self.source.stateless

    @property
    def strategy(self) -> Strategy:
        """As given, else rolling where a key of it is given, recreate for stateful services and toggle for all others."""
        rollout = self.source.rollout
        if rollout is not None and rollout.strategy is not None:
            return rollout.strategy
        if rollout is not None and rollout.model_fields_set & set(ROLLING):
            return "rolling"
        return "recreate" if self.stateful else "toggle"

    @property
    def needs(self) -> tuple[tuple[str, ServiceKey], ...] | None:
        """(alias, provider); None: not given, so everything in the project. Backing services of the table need nothing."""
        if self.source.needs is None:
            return () if self.known is not None and self.known.backing else None
        key = self.key
        return tuple(sorted((alias, ServiceKey(key.project, key.env, name)) for alias, name in self.source.needs.items()))

    @property
    def sidecar(self) -> bool:
        """Whether it calls others through localhost (or may: `needs` not given)."""
        return self.needs != ()

    def consumes(self, provider: ServiceKey) -> bool:
        """Whether its sidecar listens for `provider`, a service of the same project and environment."""
        if self.needs is None:
            return provider != self.key
        return any(needed == provider for _, needed in self.needs)


def derive(project: ProjectAt, name: str, files: Files) -> Service:
    """Fill in the defaults of the service `name`. Never raises: `plan.checks` tells what is missing."""
    source = project.source.services[name]
    key = ServiceKey(project.project, project.env, name)
    known = well_known(source.image) if source.image else None
    build, dockerfile = _build(project, source, files)
    base = well_known(dockerfile.base) if dockerfile and dockerfile.base else None
    mounts = _mounts(key, source, known)
    return Service(
        key=key,
        source=source,
        known=known,
        dockerfile=dockerfile,
        build=build,
        ports=_ports(source, known, dockerfile, base),
        internal_port=source.internal_port or internal_port(key.project, key.env, name),
        mounts=mounts,
        open_volumes=() if source.stateless else _open_volumes(mounts, dockerfile, base),
    )


def alias_variable(alias: str) -> str:
    """The beginning of the variables of an alias: `my-db` gives `MY_DB` (`MY_DB_HOST`, `MY_DB_PORT`)."""
    return alias.upper().replace("-", "_")


def context_files(project: str, dockerfile: str, files: Files) -> tuple[tuple[str, int, str], ...]:
    """The build context: of the project's directory what the Dockerfile copies, without environment files and other Dockerfiles.

    So editing `prod.yaml`, or what only another service copies, builds nothing anew. A Dockerfile that copies by patterns or all
    there is has the whole directory.
    """
    prefix = f"{ROOT}/{project}/"
    kept: list[tuple[str, int, str]] = []
    recipe = files.get(prefix + dockerfile)
    sources = read_sources(recipe.data) if recipe is not None and recipe.regular and recipe.data is not None else None
    for path, file in files.items():
        if not path.startswith(prefix):
            continue
        inner = path.removeprefix(prefix)
        name = inner.rpartition("/")[2]
        own = inner in (dockerfile, f"{dockerfile}.dockerignore", ".dockerignore")
        if not own and sources is not None and not any(inner == source or inner.startswith(f"{source}/") for source in sources):
            continue
        if own or not (name.startswith("Dockerfile") or ("/" not in inner and is_environment(inner))):
            kept.append((inner, file.mode, file.oid))
    return tuple(sorted(kept))


def _build(project: ProjectAt, source: ServiceSource, files: Files) -> tuple[Build | None, Dockerfile | None]:
    if source.dockerfile is None:
        return None, None
    context = context_files(project.project, source.dockerfile, files)
    named = json.dumps(["v1", source.dockerfile, context], separators=(",", ":"), ensure_ascii=True)
    tree = hashlib.sha256(named.encode()).hexdigest()
    build = Build(context=f"{ROOT}/{project.project}", dockerfile=source.dockerfile, tree=tree, files=context)
    file = files.get(f"{ROOT}/{project.project}/{source.dockerfile}")
    readable = file is not None and file.regular and file.data is not None
    return build, read_dockerfile(file.data) if readable and file and file.data is not None else None


def _ports(
    source: ServiceSource, known: WellKnown | None, dockerfile: Dockerfile | None, base: WellKnown | None
) -> tuple[int, ...]:
    if source.port is not None:
        return (source.port,)
    if known is not None:
        return (known.port,)
    if dockerfile is not None and dockerfile.ports:
        return dockerfile.ports
    return (base.port,) if base is not None else ()


def _mounts(key: ServiceKey, source: ServiceSource, known: WellKnown | None) -> tuple[Mount, ...]:
    mounts = [
        Mount(
            kind="bind" if name.startswith("/") else "volume",
            source=name if name.startswith("/") else f"{key.project}_{key.env}_{name}",
            target=volume.target,
            read_only=volume.read_only,
            shared=volume.shared,
        )
        for name, volume in (source.volumes or {}).items()
    ]
    mounts += [Mount(kind="tmpfs", source="", target=target) for target in source.tmpfs or ()]
    data = known.data if known is not None and not source.stateless else None
    if data is not None and all(mount.target != data for mount in mounts):
        mounts.append(Mount(kind="volume", source=f"{key.project}_{key.env}_{key.service}_data", target=data))
    return tuple(sorted(mounts, key=lambda mount: mount.target))


def _open_volumes(mounts: tuple[Mount, ...], dockerfile: Dockerfile | None, base: WellKnown | None) -> tuple[str, ...]:
    declared = (*(dockerfile.volumes if dockerfile else ()), *((base.data,) if base and base.data else ()))
    targets = {mount.target for mount in mounts}
    return tuple(path for path in dict.fromkeys(declared) if path.rstrip("/") not in targets)
