"""The simulated config repository: commits of services at versions, some of which never become healthy, and of the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from reconciler.model.desired import ContainerSpec, Desired, DesiredService, Drain, PublicRoute, Revision, Rolling, ServerEntry
from reconciler.model.identity import ServiceKey
from reconciler.plan.placement import place
from reconciler.ports import internal_port

PORT = 80
DRAIN = 20.0
LINES = (
    Rolling(soak=20.0),
    Rolling(soak=5.0, on_failure="abort_local"),
    Rolling(max_parallel=2, max_unavailable=1, soak=0.0),
)
"""The rolling rollouts that a service may ask for."""


@dataclass(frozen=True)
class Service:
    """One service as a commit has it.

    kind: what becomes of it: good, late (healthy after a while), bad (never healthy), bad@SERVER (there alone), unbuildable.
    count: how many servers of `zone` (None: of all) it is placed on; `pins` name them instead.
    """

    name: str
    version: int = 1
    project: str = "shop"
    kind: str = "good"
    count: int = 1
    zone: str | None = None
    pins: tuple[str, ...] = ()
    replicas: int = 1
    public: bool = False
    sidecar: bool = True
    recreate: bool = False
    rollback: bool = False
    secrets: bool = False
    suspend: bool = False
    rolling: Rolling | None = None

    @property
    def key(self) -> ServiceKey:
        """Its key."""
        return ServiceKey(self.project, "prod", self.name)

    @property
    def digest(self) -> str:
        """Tells its kind, so that the simulated Docker knows what becomes of it."""
        return f"sha256:{self.name}-{self.version}-{self.kind}"

    @property
    def published(self) -> str:
        """The digest of the same version with a host port."""
        return f"sha256:{self.name}-{self.version}p-{self.kind}"


@lru_cache(maxsize=4096)
def healthy_after(spec: str, server: str) -> float | None:
    """Seconds from a container's start until it is healthy on a server; None for never."""
    kind = spec.rpartition("-")[2]
    if kind == "bad" or kind == f"bad@{server}":
        return None
    return 9.0 if kind == "late" else 2.0


def sound(spec: str) -> bool:
    """Whether a version becomes healthy everywhere."""
    return spec.endswith(("-good", "-late"))


@dataclass(frozen=True)
class Tree:
    """What one commit holds. `servers`: name -> (zone, state)."""

    services: Mapping[str, Service]
    servers: Mapping[str, tuple[str, str]]
    allow: tuple[str, ...] = ()


@dataclass
class Commits:
    """The config branch: `head` is its tip, which may move to a commit that does not descend from it.

    publish: whether every service is published; None: as its inventory has it.
    """

    publish: bool | None
    trees: list[Tree] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    head: int = -1
    library: dict[tuple[ServiceKey, str], DesiredService] = field(default_factory=dict)
    made: dict[int, Desired] = field(default_factory=dict)

    @property
    def tree(self) -> Tree:
        """What the tip holds."""
        return self.trees[self.head]

    def commit(self, tree: Tree, parent: int | None = None) -> None:
        """Add a commit on top of the tip, or of another commit: then history is rewritten."""
        self.trees.append(tree)
        self.parents.append(self.head if parent is None else parent)
        self.head = len(self.trees) - 1

    def change(self, service: Service | None, name: str = "") -> None:
        """Commit one service's change; None removes the one called `name`."""
        services = dict(self.tree.services)
        if service is None:
            services.pop(name, None)
        else:
            services[service.name] = service
        self.commit(Tree(services, self.tree.servers))

    def is_ancestor(self, old: int, new: int) -> bool:
        """Whether a commit is part of another one's history (each is of its own)."""
        while new > old:
            new = self.parents[new]
        return new == old

    def desired(self, index: int) -> Desired:
        """The desired state at a commit."""
        if index not in self.made:
            tree = self.trees[index]
            servers = {
                name: ServerEntry.model_validate({"name": name, "address": address(name), "zone": zone, "state": state})
                for name, (zone, state) in tree.servers.items()
            }
            resolved = {s.key: self._resolved(s, servers, tree) for s in tree.services.values()}
            self.library |= {(key, service.spec.digest): service for key, service in resolved.items()}
            # The library is what the engine read at other revisions; it grows with the history.
            self.made[index] = Desired.model_construct(
                revision=revision(index),
                servers=servers,
                services=resolved,
                invalid={},
                warnings=(),
                library=self.library,
                allow_removals=tree.allow,
                ack_timeout=90.0,
            )
        return self.made[index]

    def bump(self, service: Service, kind: str) -> Service:
        """The service at a version that nobody has used."""
        used = (tree.services[service.name].version for tree in self.trees if service.name in tree.services)
        return replace(service, version=max(used, default=0) + 1, kind=kind)

    def _published(self, service: Service, servers: Mapping[str, ServerEntry], tree: Tree) -> bool:
        """As `plan.desired` has it: a service with data always, others when somebody on another server may call them."""
        if self.publish is not None:
            return self.publish
        if service.recreate:
            return True
        callers = [s for s in tree.services.values() if s.sidecar and s.project == service.project and s is not service]
        placed = set(self._placed(service, servers))
        zones = {servers[name].zone for name in placed}
        near = {name for name, entry in servers.items() if entry.zone in zones}
        return len(placed.union(near, *(self._placed(caller, servers) for caller in callers))) > 1

    @staticmethod
    def _placed(service: Service, servers: Mapping[str, ServerEntry]) -> tuple[str, ...]:
        """Where a service is, or may be while there is no active server for it."""
        pins = tuple(name for name in service.pins if name in servers)
        found = pins or place(service.key, service.count, service.zone, servers.values()).servers
        return found or tuple(name for name, entry in servers.items() if service.zone in (None, entry.zone))

    def _resolved(self, service: Service, servers: Mapping[str, ServerEntry], tree: Tree) -> DesiredService:
        placed = place(service.key, service.count, service.zone, servers.values())
        pins = tuple(sorted(name for name in service.pins if name in servers))
        known = tuple(name for name in pins if servers[name].state == "active" or service.recreate)
        why = f"{service.key}: too few servers" if placed.missing and not pins else None
        if pins and (not known or any(servers[name].state == "drained" for name in known)):
            why, known = f"{service.key}: it is pinned to a drained server", pins
        publish = self._published(service, servers, tree)
        return DesiredService(
            key=service.key,
            spec=ContainerSpec(
                digest=service.digest if self.publish is not None or not publish else service.published,
                image=f"{service.name}:v{service.version}-{service.kind}",
                port=PORT,
                sidecar=service.sidecar,
                needs=None if service.sidecar else (),
                publish=publish,
                secrets=("key",) if service.secrets else (),
            ),
            strategy="recreate" if service.recreate else "rolling" if service.rolling is not None else "toggle",
            rolling=service.rolling or Rolling(),
            servers=known or placed.servers,
            pinned=bool(known),
            stateful=service.recreate,
            rollback_image=service.rollback,
            internal_port=internal_port(service.project, "prod", service.name),
            public=(PublicRoute(hosts=(f"{service.name}.example",)),) if service.public else (),
            drain=Drain(timeout=DRAIN),
            suspend=service.suspend,
            replicas=service.replicas,
            stalled=why,
            homeless=why is not None,
        )


def revision(index: int) -> Revision:
    """A commit's identity, by its place in the list of commits."""
    return Revision(sha=f"{index + 1:07x}" + "0" * 33, subject=f"commit {index}")


def index_of(sha: str) -> int:
    """The place in the list of commits of a commit's identity."""
    return int(sha[:7], 16) - 1


def address(server: str) -> str:
    """A server's private address."""
    return f"10.0.0.{ord(server[0]) - ord('a') + 1}"
