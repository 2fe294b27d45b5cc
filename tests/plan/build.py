"""Short makers of what decide and plan look at. Servers are a, b, c; services are of shop/prod; `x1` is a spec digest."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.model.cluster import ClusterState, Decider, ServiceState
from reconciler.model.desired import ContainerSpec, Desired, DesiredService, PublicRoute, Revision, Rolling, ServerEntry
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Elapsed
from reconciler.model.report import InstanceReport, Report, Seen, Serving
from reconciler.plan.decide import Decision, decide


def key(name: str = "web") -> ServiceKey:
    """A service of the project."""
    return ServiceKey("shop", "prod", name)


def service(
    name: str = "web",
    digest: str = "x1",
    *,
    servers: tuple[str, ...] = ("a",),
    recreate: bool = False,
    rollback: bool = False,
    replicas: int = 1,
    suspend: bool = False,
    stalled: str | None = None,
    sidecar: bool = False,
    needs: tuple[str, ...] | None = None,
    public: bool = False,
    port: int = 80,
    publish: bool = False,
    internal_port: int | None = None,
    secrets: tuple[str, ...] = (),
    rolling: Rolling | None = None,
) -> DesiredService:
    """A desired service; its image is `name:digest`."""
    wanted = None if needs is None else tuple((need, key(need)) for need in needs)
    return DesiredService(
        key=key(name),
        spec=ContainerSpec(
            digest=digest, image=f"{name}:{digest}", port=port, sidecar=sidecar, needs=wanted, publish=publish, secrets=secrets
        ),
        strategy="recreate" if recreate else "rolling" if rolling is not None else "toggle",
        rolling=rolling or Rolling(),
        servers=servers,
        replicas=replicas,
        pinned=recreate,
        stateful=recreate,
        rollback_image=rollback,
        internal_port=internal_port or 5000 + sum(map(ord, name)) % 1000,
        public=(PublicRoute(hosts=(f"{name}.example",)),) if public else (),
        suspend=suspend,
        stalled=stalled,
    )


def desired(
    *services: DesiredService,
    revision: int = 1,
    servers: tuple[str, ...] = ("a",),
    library: tuple[DesiredService, ...] = (),
    allow: tuple[str, ...] = (),
    invalid: tuple[str, ...] = (),
) -> Desired:
    """A commit."""
    return Desired(
        revision=Revision(sha=f"{revision:07x}" + "0" * 33, subject=f"commit {revision}"),
        servers={
            name: ServerEntry(name=name, address=f"10.0.0.{ord(name) - 96 if len(name) == 1 else number}")
            for number, name in enumerate(servers, 1)
        },
        services={each.key: each for each in services},
        library={(each.key, each.spec.digest): each for each in (*services, *library)},
        allow_removals=allow,
        invalid=dict.fromkeys(invalid, ()),
    )


@dataclass
class Story:
    """A cluster state and what happens to it. Servers do as they are told unless a test says otherwise."""

    want: Desired
    cluster: ClusterState | None = None
    reports: dict[str, Report] = field(default_factory=dict)
    elapsed: dict[str, float] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def decide(self, server: str = "a") -> Decision:
        """One decision by `server`, adopted at once."""
        decision = decide(
            self.want,
            self.cluster,
            self.reports,
            Elapsed(seconds=self.elapsed),
            decider=Decider(server=server, program="1"),
            fresh_epoch="e1",
        )
        assert self.cluster is None or (decision.cluster != self.cluster) == bool(decision.reasons)
        self.cluster = decision.cluster
        self.reasons.extend(decision.reasons)
        return decision

    def obey(self, phase: str = "ready", *, only: tuple[str, ...] | None = None) -> None:
        """Every server carries out the decision: gated instances are in `phase`, draining ones are gone once they may."""
        assert self.cluster is not None
        for server in self.want.servers if only is None else only:
            self.reports[server] = self.report(server, phase)

    def report(self, server: str, phase: str = "ready", *, transient: bool = False, after: float | None = 1.0) -> Report:
        """What `server` says when it has done as the decision says."""
        cluster = self.cluster
        assert cluster is not None
        entries = []
        for name, state in cluster.services.items():
            rollout = state.rollout
            for backend in state.backends:
                gone = backend.role == "draining" and rollout is not None and rollout.phase == "draining"
                if backend.server != server or gone:
                    continue
                turn = rollout is not None and rollout.phase == "replacing" and rollout.replacing == server
                asked = rollout is not None and rollout.strategy == "recreate" and rollout.phase == "staging"
                gated = backend.role == "staged" or (backend.role == "live" and (turn or asked))
                entries.append(
                    InstanceReport.model_validate(
                        {
                            "service": name,
                            "replica": backend.replica,
                            "slot": backend.slot,
                            "spec": rollout.target if rollout is not None and gated else backend.spec,
                            "rollout": rollout.id if rollout is not None and gated else "earlier",
                            "phase": phase if gated else backend.role,
                            "transient": transient,
                            "after_s": after if gated else None,
                            "reason": "connection refused" if gated and phase == "failed" else None,
                            "image": f"{name}@{rollout.target}" if rollout is not None and gated else None,
                        }
                    )
                )
        told = Seen(config=cluster.config, epoch=cluster.epoch, generation=cluster.generation)
        serving = Serving(epoch=cluster.epoch, generation=cluster.generation)
        return Report(
            server=server,
            instance=server,
            program="1",
            seen=told,
            serving=serving,
            retired=cluster.generation,
            instances=tuple(entries),
        )

    def settle(self, phase: str = "ready") -> Story:
        """Until nothing changes any more."""
        for round_ in range(40):
            before = self.cluster
            self.decide()
            if self.cluster == before and round_ > 0:
                return self
            self.obey(phase)
        raise AssertionError(f"it does not settle: {self.reasons[-5:]}")

    def commit(self, *services: DesiredService, revision: int, allow: tuple[str, ...] = ()) -> Story:
        """The config moves on; what was before stays in the library."""
        known = tuple(self.want.library.values())
        servers = tuple(self.want.servers)
        self.want = desired(*services, revision=revision, servers=servers, library=known, allow=allow)
        return self

    def state(self, name: str = "web") -> ServiceState:
        """One service of the decision."""
        assert self.cluster is not None
        return self.cluster.services[f"shop/prod/{name}"]

    def members(self) -> tuple[str, ...]:
        """The members of the cluster."""
        assert self.cluster is not None
        return self.cluster.members

    def slots(self, role: str, name: str = "web") -> list[str]:
        """`server slot spec` of the backends in a role."""
        return sorted(f"{b.server} {b.slot} {b.spec}" for b in self.state(name).backends if b.role == role)

    def phase(self, name: str = "web") -> str | None:
        """The phase of a service's rollout."""
        rollout = self.state(name).rollout
        return rollout.phase if rollout is not None else None


def story(*services: DesiredService, servers: tuple[str, ...] = ("a",)) -> Story:
    """A converged cluster with these services."""
    begun = Story(desired(*services, servers=servers))
    begun.decide()
    begun.obey()
    return begun.settle()
