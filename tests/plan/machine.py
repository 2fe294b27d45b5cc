"""One simulated server: its Docker, its nginxes and the prober, as far as plans can tell them from real ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from reconciler.model.action import (
    Action,
    ConnectNetwork,
    EnsureNetwork,
    PrepareImage,
    Reload,
    RemoveInstance,
    RemoveNetwork,
    RestoreContainer,
    SignalInstance,
    StartContainer,
    StartInstance,
    StartNginx,
)
from reconciler.model.cluster import ClusterState
from reconciler.model.container import ContainerPlan
from reconciler.model.desired import Desired
from reconciler.model.identity import InstanceKey
from reconciler.model.observed import Container, Gate, Image, ImageState, NginxState, Observed
from reconciler.model.report import Report
from reconciler.model.routes import NginxConfig
from reconciler.model.site import Site
from reconciler.plan.gates import gate_targets
from tests.simulation.versions import address

HEALTHY_AFTER = 2.0
FAILS_AFTER = 5.0
PULL = 3.0


def resolved(reference: str, at: float) -> str:
    """The bytes that a reference names when it is fetched: the tags of this registry move all the time."""
    name, _, tag = reference.partition(":")
    return reference if "@" in reference else f"{name}@{tag}.{int(at // 40.0)}"


def fingerprint(config: NginxConfig) -> str:
    """Stands for the hash of the rendered text; equal for equal configurations."""
    return format(hash(config) & 0xFFFFFFFFFFFF, "012x")


@dataclass
class Worker:
    """An nginx worker that is shutting down. `pinned`: a long connection keeps it busy with its backends."""

    config: NginxConfig
    ends: float
    pinned: bool


@dataclass
class Box:
    """A container."""

    id: str
    plan: ContainerPlan
    status: str
    created: int
    started: float
    namespace_of: str | None = None
    networks: tuple[str, ...] = ()
    exit_code: int | None = None
    loaded: NginxConfig | None = None
    workers: list[Worker] = field(default_factory=list)
    refused: str | None = None

    @property
    def instance(self) -> InstanceKey | None:
        """The instance it belongs to."""
        return self.plan.labels.instance

    @property
    def good(self) -> bool:
        """Whether its version becomes healthy."""
        return self.plan.labels.spec.endswith("-good")


@dataclass
class Refs:
    """The status refs. `version` stands for the object id that a compare-and-swap names."""

    cluster: ClusterState | None = None
    version: int = 0
    reports: dict[str, Report] = field(default_factory=dict)


@dataclass
class Machine:
    """A server and what its daemon remembers."""

    name: str
    site: Site
    boxes: dict[str, Box] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=lambda: {"bridge": "172.17.0.0/16"})
    pulls: dict[str, tuple[float, bool, str]] = field(default_factory=dict)  # reference -> (done at, whether it will succeed, for)
    locals: dict[str, str] = field(default_factory=dict)
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)
    refuses: bool = False
    frozen_until: float = 0.0
    count: int = 0
    # the daemon's memory
    head: int = 0
    known: Refs = field(default_factory=Refs)
    cluster: ClusterState | None = None
    unpushed: bool = False
    report: Report | None = None
    times: dict[str, float] = field(default_factory=dict)
    marks: set[str] = field(default_factory=set)
    probes: dict[str, float] = field(default_factory=dict)
    heals: dict[str, list[float]] = field(default_factory=dict)

    # Docker

    def find(self, instance: InstanceKey, role: str = "application") -> Box | None:
        """A container of an instance."""
        found = [b for b in self.boxes.values() if b.instance == instance and b.plan.labels.role == role]
        return min(found, key=lambda b: (b.status != "running", b.id), default=None)

    def reachable(self, instance: InstanceKey) -> bool:
        """Whether something accepts connections at the instance's address."""
        box = self.find(instance)
        if box is None or box.status != "running":
            return False
        if box.plan.namespace_of is None:
            return True
        owner = self.boxes.get(box.namespace_of or "")
        return owner is not None and owner.status == "running"

    def healthy(self, instance: InstanceKey, now: float) -> bool:
        """Whether it serves requests well."""
        box = self.find(instance)
        return box is not None and self.reachable(instance) and box.good and now - box.started >= HEALTHY_AFTER

    def create(self, plan: ContainerPlan, now: float, status: str = "running") -> Box:
        """Create (and start) a container. A name in use is an error of the caller."""
        assert all(b.plan.name != plan.name for b in self.boxes.values()), f"name conflict: {plan.name}"
        self.count += 1
        owner = None
        if plan.namespace_of is not None:
            owner = next(b.id for b in self.boxes.values() if b.plan.name == plan.namespace_of)
        networks = (plan.network,) if plan.network else ()
        assert not plan.network or plan.network in self.networks, f"{plan.name} needs {plan.network}"
        if plan.address is not None:
            clash = [
                b.plan.name for b in self.boxes.values() if b.plan.address == plan.address and b.status in ("running", "paused")
            ]
            assert not clash, f"{plan.address} is in use by {clash}"
        box = Box(f"{self.name}{self.count:04d}", plan, status, self.count, now, owner, networks)
        self.boxes[box.id] = box
        return box

    def names(self) -> frozenset[str]:
        """Names that nginx can resolve: aliases of running containers on the project network."""
        return frozenset(alias for b in self.boxes.values() if b.status in ("running", "paused") for alias in b.plan.aliases)

    def loads(self, config: NginxConfig) -> bool:
        """Whether nginx accepts the configuration: every name in it resolves, and no fault makes it refuse."""
        hosts = {peer.address.rpartition(":")[0] for upstream in config.upstreams for peer in upstream.peers}
        unknown = {host for host in hosts if not host[0].isdigit()} - self.names()
        return not unknown and not self.refuses

    # Observation

    def observe(self, desired: Desired, cluster: ClusterState | None, now: float, connections: dict[str, int]) -> Observed:
        """What the adapters would find."""
        for box in self.boxes.values():
            box.workers = [w for w in box.workers if w.ends > now]
        containers = tuple(
            Container.model_construct(
                id=b.id,
                name=b.plan.name,
                labels=b.plan.labels,
                status=b.status,  # type: ignore[arg-type]
                created=f"{b.created:06d}",
                image_id=b.plan.image,
                address=b.plan.address if b.status == "running" else None,
                pid=1 if b.status == "running" else 0,
                exit_code=b.exit_code,
                restarts=0,
                namespace_of=b.namespace_of,
                networks=b.networks,
                drift=(),
            )
            for b in sorted(self.boxes.values(), key=lambda b: b.plan.name)
        )
        if cluster is not None:
            self.pairs = {name: pair for name, pair in self.pairs.items() if name.partition("#")[0] in cluster.services}
        for box in self.boxes.values():
            if box.instance is not None and box.plan.labels.addresses is not None:
                self.pairs[f"{box.instance.service}#{box.instance.replica}"] = box.plan.labels.addresses
        observed = Observed.model_construct(
            server=self.name,
            pairs=dict(self.pairs),
            containers=containers,
            foreign=frozenset({"somebody_else"}),
            networks=dict(self.networks),
            own_networks=frozenset(self.networks) - {"bridge"},
            images=dict(self._images(now)),
            gates={},
            connections=connections,
            nginx={b.plan.name: self._nginx(b) for b in self.boxes.values() if b.loaded is not None and b.status == "running"},
            busy_ports=frozenset(),
            locals={f"shop/prod/{name}": value for name, value in self.locals.items()},
            missing_secrets={},
            heals={name: len([t for t in times if now - t < 300.0]) for name, times in self.heals.items()},
            warnings={},
            start_errors={},
        )
        return observed.model_copy(update={"gates": self._gates(desired, cluster, observed, now)})

    def _images(self, now: float) -> Iterator[tuple[str, ImageState]]:
        for reference, (done, succeeds, attempt) in self.pulls.items():
            if now < done:
                yield (
                    reference,
                    ImageState.model_construct(attempt=attempt, status="preparing", image=None, error=None, transient=True, log=()),
                )
            elif succeeds:
                named = resolved(reference, done)
                image = Image.model_construct(id=named, reference=named, volumes=(), exposed=())
                yield (
                    reference,
                    ImageState.model_construct(attempt=attempt, status="present", image=image, error=None, transient=True, log=()),
                )
            else:
                hard = reference.endswith("unbuildable")
                why = "build failed" if hard else "registry does not answer"
                yield (
                    reference,
                    ImageState.model_construct(attempt=attempt, status="failed", image=None, error=why, transient=not hard, log=()),
                )

    def _nginx(self, box: Box) -> NginxState:
        loaded = fingerprint(box.loaded) if box.loaded is not None else None
        return NginxState.model_construct(
            name=box.plan.name, loaded=loaded, old_workers=len(box.workers), refused=box.refused, error="refused by a fault"
        )

    def _gates(self, desired: Desired, cluster: ClusterState | None, observed: Observed, now: float) -> dict[str, Gate]:
        gates = {}
        targets = gate_targets(desired, cluster, observed)
        self.probes = {box: since for box, since in self.probes.items() if box in targets}
        for identity, target in targets.items():
            box = self.boxes[identity]
            waited = now - max(self.probes.setdefault(identity, now), box.started)
            running = box.status == "running" and target.owner.status == "running"
            if box.status in ("exited", "dead"):
                gate = Gate(state="failed", error=f"exited with code {box.exit_code}")
            elif running and box.good and waited >= HEALTHY_AFTER:
                gate = Gate(state="passed", after=HEALTHY_AFTER)
            elif running and not box.good and waited >= FAILS_AFTER:
                gate = Gate(state="failed", error="connection refused")
            else:
                gate = Gate(state="waiting")
            gates[identity] = gate
        return gates

    # Carrying out

    def apply(self, action: Action, now: float, crash_after: int, lasts: float, succeeds: bool) -> None:
        """One action. `crash_after`: how many of its steps are done before the daemon dies (a large number: all).

        lasts: seconds until the old worker of a reload has ended. succeeds: whether a pull does.
        """
        if isinstance(action, EnsureNetwork):
            assert action.name not in self.networks
            self.networks[action.name] = action.subnet
        elif isinstance(action, PrepareImage):
            self.pulls[action.reference] = (now + PULL, succeeds and not action.reference.endswith("unbuildable"), action.attempt)
        elif isinstance(action, StartInstance):
            self._start_instance(action, now, crash_after)
        elif isinstance(action, StartContainer):
            box = self.boxes[action.id]
            box.status, box.exit_code = "running", None
            box.started = box.started if action.paused else now
        elif isinstance(action, SignalInstance):
            box = self.boxes[action.id]
            box.status, box.exit_code = "exited", 0
            self.marks.add(f"signalled:{action.id}")
        elif isinstance(action, RemoveInstance):
            for identity in action.ids[:crash_after]:
                del self.boxes[identity]
        elif isinstance(action, StartNginx):
            for identity in action.replaces:
                del self.boxes[identity]
            box = self.create(action.container, now)
            box.networks = (*box.networks, *(name for name, _ in action.networks))
            self._first_load(box, action.config)
        elif isinstance(action, ConnectNetwork):
            box = next(b for b in self.boxes.values() if b.plan.name == action.container)
            assert action.network not in box.networks
            box.networks = (*box.networks, action.network)
        elif isinstance(action, RemoveNetwork):
            users = [b.plan.name for b in self.boxes.values() if action.name in b.networks and b.plan.labels.role != "edge"]
            assert not users, f"{action.name} is in use by {users}"
            for box in self.boxes.values():
                box.networks = tuple(name for name in box.networks if name != action.name)
            del self.networks[action.name]
        elif isinstance(action, Reload):
            for config in action.configs[:crash_after]:
                self._reload(config, now + lasts, lasts > 5.0)
        else:
            assert isinstance(action, RestoreContainer)

    def _start_instance(self, action: StartInstance, now: float, crash_after: int) -> None:
        for identity in action.replaces:
            del self.boxes[identity]
        if crash_after < 1:
            return
        if action.sidecar is not None:
            assert action.sidecar_config is not None
            self._first_load(self.create(action.sidecar, now), action.sidecar_config)
        if crash_after < 2:
            return
        self.create(action.application, now, "running" if crash_after >= 3 else "created")

    def _first_load(self, box: Box, config: NginxConfig) -> None:
        if self.loads(config):
            box.loaded = config
        else:
            box.status, box.exit_code = "exited", 1

    def _reload(self, config: NginxConfig, ends: float, pinned: bool) -> None:
        box = next((b for b in self.boxes.values() if b.plan.name == config.name and b.status == "running"), None)
        if box is None or box.loaded is None:
            return
        if not self.loads(config):
            box.refused = fingerprint(config)
            return
        box.workers.append(Worker(box.loaded, ends, pinned))
        box.loaded, box.refused = config, None


def make(name: str) -> Machine:
    """A fresh server."""
    site = Site(server=name, nginx_image="nginx", nginx_root="/nginx", address=address(name))
    return Machine(name=name, site=site)
