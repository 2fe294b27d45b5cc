"""The simulated config repository: commits of services at versions, some of which never become healthy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reconciler.model.desired import ContainerSpec, Desired, DesiredService, Drain, PublicRoute, Revision, Rolling, ServerEntry
from reconciler.model.identity import ServiceKey
from reconciler.ports import internal_port

PORT = 80


@dataclass(frozen=True)
class Service:
    """One service as a commit has it. `kind`: good, bad (never healthy) or unbuildable."""

    name: str
    version: int
    servers: tuple[str, ...]
    kind: str = "good"
    public: bool = False
    sidecar: bool = True
    recreate: bool = False
    rollback: bool = False
    secrets: bool = False
    suspend: bool = False
    rolling: Rolling | None = None
    replicas: int = 1

    @property
    def key(self) -> ServiceKey:
        """Its key; all services are in one project."""
        return ServiceKey("shop", "prod", self.name)

    @property
    def digest(self) -> str:
        """Tells its kind, so that the simulated Docker knows what becomes of it."""
        return f"sha256:{self.name}-{self.version}-{self.kind}"


@dataclass
class Commits:
    """The config branch. `cluster_of` more than one server: backends are published on addresses."""

    names: tuple[str, ...]
    history: list[dict[str, Service]] = field(default_factory=list)
    allow: dict[int, tuple[str, ...]] = field(default_factory=dict)
    library: dict[tuple[ServiceKey, str], DesiredService] = field(default_factory=dict)
    made: dict[int, Desired] = field(default_factory=dict)

    @property
    def head(self) -> int:
        """The index of the last commit."""
        return len(self.history) - 1

    def commit(self, services: dict[str, Service], allow: tuple[str, ...] = ()) -> None:
        """Add a commit."""
        self.history.append(dict(services))
        self.allow[self.head] = allow
        for service in services.values():
            resolved = self._resolved(service)
            self.library[service.key, service.digest] = resolved

    def change(self, name: str, service: Service | None) -> None:
        """Commit one service's change; None removes it."""
        services = dict(self.history[-1])
        if service is None:
            services.pop(name, None)
        else:
            services[name] = service
        self.commit(services)

    def desired(self, index: int) -> Desired:
        """The desired state at a commit."""
        if index not in self.made:
            self.made[index] = Desired(
                revision=revision(index),
                servers={name: ServerEntry(name=name, address=address(name)) for name in self.names},
                services={s.key: self._resolved(s) for s in self.history[index].values()},
                allow_removals=self.allow[index],
            )
        # The library is what the engine read at other revisions; it grows with the history.
        return self.made[index].model_copy(update={"library": self.library})

    def bump(self, service: Service, kind: str) -> Service:
        """The service at a version that nobody has used."""
        used = [s.version for commit in self.history for s in commit.values() if s.name == service.name]
        return replace(service, version=max(used, default=0) + 1, kind=kind)

    def _resolved(self, service: Service) -> DesiredService:
        return DesiredService(
            key=service.key,
            spec=ContainerSpec(
                digest=service.digest,
                image=f"{service.name}:v{service.version}-{service.kind}",
                port=PORT,
                sidecar=service.sidecar,
                needs=None if service.sidecar else (),
                publish=len(self.names) > 1,
                secrets=("key",) if service.secrets else (),
            ),
            strategy="recreate" if service.recreate else "rolling" if service.rolling is not None else "toggle",
            rolling=service.rolling or Rolling(),
            servers=service.servers,
            pinned=service.recreate,
            stateful=service.recreate,
            rollback_image=service.rollback,
            internal_port=internal_port("shop", "prod", service.name),
            public=(PublicRoute(hosts=(f"{service.name}.example",)),) if service.public else (),
            drain=Drain(timeout=20.0),
            suspend=service.suspend,
            replicas=service.replicas,
        )


def revision(index: int) -> Revision:
    """A commit's identity, by its place in the history."""
    return Revision(sha=f"{index + 1:07x}" + "0" * 33, subject=f"commit {index}")


def index_of(sha: str) -> int:
    """The place in the history of a commit's identity."""
    return int(sha[:7], 16) - 1


def address(server: str) -> str:
    """A server's private address."""
    return f"10.0.0.{ord(server[0]) - ord('a') + 1}"
