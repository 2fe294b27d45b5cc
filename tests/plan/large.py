"""A large cluster as data: services on some of many servers, all of them in the same phase of a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.model.cluster import Backend, ClusterState, Decider, Live, Role, Rollout, ServiceState
from reconciler.model.container import Labels
from reconciler.model.desired import ContainerSpec, Desired, DesiredService, PublicRoute, Revision, ServerEntry
from reconciler.model.identity import ServiceKey, Slot
from reconciler.model.observed import Container, Observed
from reconciler.model.report import InstancePhase, InstanceReport, Report, Seen, Serving
from reconciler.model.site import Site
from reconciler.plan.nginxes import Intended, configs
from tests.simulation.rules import rendered

OLD, NEW = "old", "new"
PER_PROJECT = 10
GENERATION = 5
REPORTED: dict[Role, InstancePhase] = {"live": "live", "staged": "ready", "draining": "draining"}


@dataclass(frozen=True)
class Large:
    """`services` services, each on `places` of `servers` servers: `done` (nothing to do), `staging` (all ready) or `switching`."""

    services: int
    servers: int
    places: int
    phase: Literal["done", "staging", "switching"]

    @property
    def names(self) -> tuple[str, ...]:
        """`s00`, `s01`, ..."""
        return tuple(f"s{number:02d}" for number in range(self.servers))

    @property
    def version(self) -> str:
        """What is desired."""
        return OLD if self.phase == "done" else NEW

    def desired(self) -> Desired:
        """The commit that is rolled out."""
        found = {number: {v: self.service(number, v) for v in (OLD, NEW)} for number in range(self.services)}
        return Desired(
            revision=Revision(sha="0000001" + "0" * 33),
            servers={name: ServerEntry(name=name, address=f"10.0.0.{n + 1}") for n, name in enumerate(self.names)},
            services={each[self.version].key: each[self.version] for each in found.values()},
            library={(s.key, s.spec.digest): s for each in found.values() for s in each.values()},
        )

    def service(self, number: int, version: str) -> DesiredService:
        """Every other one has a sidecar, one of each project is public."""
        spec = ContainerSpec(
            digest=version, image=f"w{number}@sha256:{version}", port=80, publish=True, sidecar=number % 2 == 0,
            needs=None if number % 2 == 0 else (),
        )  # fmt: skip
        return DesiredService(
            key=ServiceKey(f"p{number // PER_PROJECT}", "prod", f"w{number}"),
            spec=spec,
            servers=self.placed(number),
            internal_port=5000 + number % 1000,
            public=(PublicRoute(hosts=(f"p{number}.example",)),) if number % PER_PROJECT == 0 else (),
        )

    def placed(self, number: int) -> tuple[str, ...]:
        """Where a service is."""
        return tuple(sorted(self.names[(number * self.places + place) % self.servers] for place in range(self.places)))

    def cluster(self) -> ClusterState:
        """The decision."""
        return ClusterState(
            epoch="e",
            generation=GENERATION,
            decided_by=Decider(server="s00", program="1"),
            members=self.names,
            config="0000001" + "0" * 33,
            services={str(self.service(n, OLD).key): self._state(n) for n in range(self.services)},
        )

    def reports(self) -> dict[str, Report]:
        """What everybody says: ready, or serving, as the phase wants it."""
        told: dict[str, list[InstanceReport]] = {name: [] for name in self.names}
        for key, state in self.cluster().services.items():
            rollout, image = (state.rollout.id, state.rollout.image) if state.rollout is not None else (None, None)
            for each in state.backends:
                told[each.server].append(
                    InstanceReport(
                        service=key, slot=each.slot, spec=each.spec, port=each.port, rollout=rollout, phase=REPORTED[each.role],
                        image=image,
                    )
                )  # fmt: skip
        seen, serving = Seen(config="0", epoch="e", generation=GENERATION), Serving(epoch="e", generation=GENERATION)
        return {
            name: Report(
                server=name, instance=name, program="1", seen=seen, serving=serving, retired=GENERATION, instances=tuple(entries)
            )
            for name, entries in told.items()
        }

    def observed(self) -> Observed:
        """What runs on the first server."""
        found = []
        for key, state in self.cluster().services.items():
            for number, each in enumerate(b for b in state.backends if b.server == "s00"):
                found.extend(self._containers(ServiceKey.parse(key), each, number))
        return Observed(server="s00", containers=tuple(found), networks={"bridge": "172.17.0.0/16"})

    def site(self) -> Site:
        """The first server's."""
        return Site(server="s00", nginx_image="nginx", nginx_root="/nginx", address="10.0.0.1")

    def intended(self) -> dict[str, Intended]:
        """What its nginxes should have loaded."""
        found = configs(self.desired(), self.cluster(), self.observed(), self.site())
        return {name: Intended(config, rendered(config).fingerprint) for name, config in found.items()}

    def _state(self, number: int) -> ServiceState:
        live, staged = self._backends(number, OLD, "primary", "live"), self._backends(number, NEW, "secondary", "staged")
        backends = live
        if self.phase == "staging":
            backends = (*live, *staged)
        elif self.phase == "switching":
            backends = (*self._backends(number, OLD, "primary", "draining"), *self._backends(number, NEW, "secondary", "live"))
        rollout = Rollout(
            id="0000001/1", target=self.version, revision="0" * 40, strategy="toggle", phase=self.phase, cause="test",
            image=f"w{number}@sha256:{self.version}", switched_at=None if self.phase == "staging" else GENERATION,
        )  # fmt: skip
        return ServiceState(
            internal_port=5000 + number % 1000,
            container_port=80,
            live=Live(spec=NEW if self.phase == "switching" else OLD, revision="0" * 40, image=f"w{number}@sha256:x"),
            rollout=rollout,
            backends=backends,
        )

    def _backends(self, number: int, version: str, slot: Slot, role: Role) -> tuple[Backend, ...]:
        port = 8000 + number % 1000 + (10000 if slot == "secondary" else 0)
        weight = 100 if role == "live" else 0
        return tuple(
            Backend(server=server, slot=slot, port=port, spec=version, role=role, weight=weight) for server in self.placed(number)
        )

    def _containers(self, key: ServiceKey, backend: Backend, number: int) -> list[Container]:
        instance = key.instance(backend.slot, 1)
        has_sidecar = int(key.service.removeprefix("w")) % 2 == 0
        made = []
        for role in ("sidecar", "application") if has_sidecar else ("application",):
            labels = Labels.model_validate(
                {
                    "server": "s00", "role": role, "service": key, "slot": backend.slot, "spec": backend.spec, "revision": "0" * 40,
                    "rollout": "0000001/1", "addresses": ("10.1.0.2", "10.1.0.3"), "ports": (8000 + number, 18000 + number),
                }
            )  # fmt: skip
            name = instance.sidecar if role == "sidecar" else instance.name
            joined = f"{instance.sidecar}-id" if has_sidecar and role == "application" else None
            made.append(
                Container(
                    id=f"{name}-id", name=name, labels=labels, status="running", pid=1, address="10.1.0.2", namespace_of=joined
                )
            )
        return made
