"""Gathers `Observed`: one container list, and only those further questions whose answers can have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from reconciler.effects.probes import Target
from reconciler.engine.ports import DockerPort, NginxPort, ProberPort, SecretsPort
from reconciler.engine.redaction import redacted
from reconciler.engine.refusals import Refusals
from reconciler.errors import Transient
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Container, Gate, ImageState, NginxState, Observed
from reconciler.model.routes import NginxConfig
from reconciler.model.site import Site
from reconciler.model.switched import Switched
from reconciler.plan.ending import drained_names
from reconciler.plan.gates import GateTarget, gate_targets
from reconciler.render.nginx import Rendered, render

CRASHES = 3
"""Restarts by Docker during the gate after which nothing more is waited for."""


Secrets = Mapping[ServiceKey, tuple[str, ...]]
Others = Mapping[tuple[ServiceKey, str], tuple[str, ...]]


@dataclass(frozen=True)
class _Known:
    """An nginx's state as it was last asked, for one process."""

    pid: int
    state: NginxState


class Observer:
    """Keeps what need not be asked again: the state of an nginx that nobody has touched."""

    def __init__(
        self,
        docker: DockerPort,
        nginx: NginxPort,
        prober: ProberPort,
        secrets: SecretsPort,
        site: Site,
        render: Callable[[NginxConfig], Rendered] = render,
    ) -> None:
        self._docker = docker
        self._nginx = nginx
        self._prober = prober
        self._secrets = secrets
        self.site = site
        self._nginxes: dict[str, _Known] = {}
        self._pairs: dict[str, tuple[str, str]] = {}
        self._refusals = Refusals(render, nginx.read)

    def observe(
        self,
        desired: Desired,
        cluster: ClusterState | None,
        images: Mapping[str, ImageState],
        heals: Mapping[str, int],
        warnings: Mapping[str, str],
        dead: Mapping[str, str],
    ) -> Observed:
        """What is there now; `dead` is what the pulses tell of listed backends. Raises Transient when Docker does not answer."""
        containers, foreign = self._docker.containers()
        named = {key: service.spec.secrets for key, service in desired.services.items() if service.spec.secrets}
        others = _other_secrets(desired, cluster)
        base = Observed(
            server=self.site.server,
            containers=containers,
            pairs=self._remembered_pairs(containers, cluster),
            foreign=foreign,
            networks=self._docker.networks(),
            own_networks=frozenset(self._docker.own_networks()),
            images=images,
            nginx=self._nginx_states(containers),
            dead=dead,
            busy_ports=self._busy(desired),
            busy_loopback=self._busy_loopback(containers),
            locals=self._locals(named, others),
            missing_secrets=self._missing(named, others),
            heals=heals,
            warnings=warnings,
        )
        gates = self._gates(desired, cluster, base)
        if cluster is None:
            return base.model_copy(update={"gates": gates})
        connections = self._connections(desired, cluster, base)
        return base.model_copy(update={"gates": gates, "connections": connections})

    def _locals(self, named: Secrets, others: Others) -> Mapping[str, str]:
        """Of what the config names, and of what a live version names otherwise: "" where that has no secrets."""
        found = dict(self._secrets.digests(named)) if named else {}
        for (key, spec), names in others.items():
            found[f"{key}@{spec}"] = self._secrets.digests({key: names}).get(str(key), "")
        return found

    def _missing(self, named: Secrets, others: Others) -> Mapping[str, tuple[str, ...]]:
        found = dict(self._secrets.missing(named)) if named else {}
        for (key, spec), names in others.items():
            found[f"{key}@{spec}"] = self._secrets.missing({key: names}).get(str(key), ())
        return found

    def switched(self, outcomes: Sequence[Switched], tried: Mapping[str, NginxConfig], pids: Mapping[str, int]) -> None:
        """Take over what a switch verified, so that it need not be asked again, and what was refused of what was `tried`."""
        self._refusals.learn(outcomes, tried, pids)
        for outcome in outcomes:
            known = _Known(pids.get(outcome.name, 0), outcome.state)
            if outcome.name != self.site.edge_name:
                known = _Known(known.pid, outcome.state.model_copy(update={"old_workers": 0}))
            self._nginxes[outcome.name] = known

    def nginx_pids(self, observed: Observed) -> Mapping[str, int]:
        """Process ids of the running nginxes' masters."""
        return {c.name: c.pid for c in observed.containers if c.labels.role != "application" and c.running and c.pid}

    def _remembered_pairs(self, containers: tuple[Container, ...], cluster: ClusterState | None) -> Mapping[str, tuple[str, str]]:
        """Addresses stay a service's own for as long as the decision lists it, also while none of its containers is there."""
        for container in containers:
            labels = container.labels
            if labels.service is not None and labels.addresses is not None:
                self._pairs[f"{labels.service}#{labels.replica}"] = labels.addresses
        listed = cluster.services if cluster is not None else {}
        here = {f"{c.labels.service}#{c.labels.replica}" for c in containers}
        self._pairs = {name: pair for name, pair in self._pairs.items() if name in here or name.partition("#")[0] in listed}
        return dict(self._pairs)

    def _nginx_states(self, containers: tuple[Container, ...]) -> Mapping[str, NginxState]:
        states: dict[str, NginxState] = {}
        for container in containers:
            if container.labels.role == "application" or not container.running or not container.pid:
                continue
            known = self._nginxes.get(container.name)
            settled = known is not None and known.pid == container.pid and known.state.loaded and not known.state.old_workers
            if known is None or not settled:
                port = self.site.host_generation_port if container.labels.role == "host" else self.site.generation_port
                known = _Known(container.pid, self._told(container, self._nginx.state(container.name, container.pid, port)))
                self._nginxes[container.name] = known
            refusals = self._refusals.of(container.name, container.pid)
            states[container.name] = known.state.model_copy(update={"refusals": refusals}) if refusals else known.state
        self._refusals.keep(states)
        self._nginxes = {name: known for name, known in self._nginxes.items() if name in states}
        return states

    @staticmethod
    def _told(container: Container, state: NginxState) -> NginxState:
        """Old workers count at the edge alone: one that only passes TCP on chose each connection's backend when it accepted it."""
        return state if container.labels.role == "edge" else state.model_copy(update={"old_workers": 0})

    def _gates(self, desired: Desired, cluster: ClusterState | None, observed: Observed) -> Mapping[str, Gate]:
        targets = gate_targets(desired, cluster, observed)
        self._prober.watch({identity: _probe(target) for identity, target in targets.items()})
        gates = self._prober.gates()
        return {i: self._cleared(targets[i], gate, desired) for i, gate in gates.items() if i in targets}

    def _cleared(self, target: GateTarget, gate: Gate, desired: Desired) -> Gate:
        """The last words of a failed container go into a status commit: without secrets and values of its environment."""
        service = desired.service_at(target.instance.service, target.container.labels.spec)
        if gate.state != "failed" or not gate.log or service is None:
            return gate
        values = [value for _, value in service.spec.env]
        log = self._secrets.redact(service.key, service.spec.secrets, redacted(gate.log, values))
        return gate.model_copy(update={"log": log})

    def _connections(self, desired: Desired, cluster: ClusterState, observed: Observed) -> Mapping[str, int]:
        counted = {}
        for instance in drained_names(cluster, observed):
            application = observed.of(instance)
            if application is None or not application.running:
                continue
            owner = observed.of(instance, "sidecar") or application
            service = desired.service_at(instance.service, application.labels.spec) or desired.services.get(instance.service)
            state = cluster.services.get(str(instance.service))
            port = service.spec.port if service is not None else state.container_port if state is not None else 0
            if owner.pid and port:
                # A process that has ended since it was listed holds up nobody else: the next pass sees what became of it.
                with suppress(Transient):
                    counted[application.id] = self._nginx.connections(owner.pid, port)
        return counted

    def _busy(self, desired: Desired) -> frozenset[int]:
        if self.site.address is None or not any(service.spec.publish for service in desired.services.values()):
            return frozenset()
        return self._docker.ports_in_use(self.site.address)

    def _busy_loopback(self, containers: tuple[Container, ...]) -> frozenset[int]:
        """Ports of the server's own loopback that somebody else than our host listener has."""
        if not self.site.host_listener:
            return frozenset()
        ours = next((c.pid for c in containers if c.labels.role == "host" and c.running), 0)
        return self._docker.ports_in_use("127.0.0.1", ours)


def _other_secrets(desired: Desired, cluster: ClusterState | None) -> Others:
    """By service and spec: the names of the secrets of what runs or is to run, where the config names others now."""
    found = {}
    for name, state in cluster.services.items() if cluster is not None else ():
        key = ServiceKey.parse(name)
        current = desired.services.get(key)
        for spec in {backend.spec for backend in state.backends if backend.role != "draining"}:
            service = desired.service_at(key, spec)
            if service is not None and (current is None or service.spec.secrets != current.spec.secrets):
                found[key, spec] = service.spec.secrets
    return found


def _probe(target: GateTarget) -> Target:
    container = target.container
    ended = None
    if container.status in ("exited", "dead"):
        ended = f"exited with code {container.exit_code}"
    elif container.restarts >= CRASHES:
        code = f", the last time with code {container.exit_code}" if container.exit_code is not None else ""
        ended = f"crashed {container.restarts} times{code}"
    return Target(
        health=target.health, address=target.owner.address, port=target.port, pid=container.pid, ended=ended, stays=target.stays
    )
