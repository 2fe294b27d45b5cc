"""What is really there on one server at one moment, as the adapters found it. Durations are seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from reconciler.model.base import Model
from reconciler.model.container import Labels
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.routes import Peer

ContainerStatus = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]
GateState = Literal["waiting", "passed", "failed"]
ImageStatus = Literal["present", "absent", "preparing", "failed"]


class Container(Model):
    """One of our containers. `drift` names what was changed by hand since it was created, empty if nothing was."""

    id: str
    name: str
    labels: Labels
    status: ContainerStatus
    created: str = ""  # when, in Docker's words: only to order the containers of one server by age
    image_id: str = ""
    address: str | None = None  # on the project network, when running
    pid: int = 0  # on the host, 0 when not running
    exit_code: int | None = None
    restarts: int = 0
    namespace_of: str | None = None  # id of the container whose network namespace it joins
    networks: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether its process runs and is not frozen."""
        return self.status == "running"

    @property
    def instance(self) -> InstanceKey | None:
        """The instance it belongs to; None for the edge and the host listener."""
        return self.labels.instance


class Image(Model):
    """An image as Docker knows it."""

    id: str
    reference: str  # immutable where there is one: name@sha256:..., else the id
    volumes: tuple[str, ...] = ()
    exposed: tuple[int, ...] = ()


class ImageState(Model):
    """What is known of an image reference on this server. `transient` tells a failed registry from a failed build."""

    status: ImageStatus
    image: Image | None = None
    error: str | None = None
    attempt: str = ""  # `PrepareImage.attempt` of the last try: what came of it counts for that attempt
    failures: int = 0  # in a row, within the attempt, for the back-off
    transient: bool = True
    log: tuple[str, ...] = ()
    unasked: str | None = None  # present, but its registry could not be asked what the tag means now


class Gate(Model):
    """The health gate of one container, from this container's own probes."""

    state: GateState
    after: float = 0.0  # from start to passed, or the time waited so far
    successes: int = 0
    failures: int = 0
    healthy_since: float | None = None  # seconds from start to the first of the successes counted
    error: str | None = None  # the last failure
    log: tuple[str, ...] = ()  # last lines of output, when failed


class Refusal(Model):
    """A part of a configuration that an nginx did not take: an upstream's peers, or a listener. Known for as long as it runs.

    part: what exactly was refused (`plan.refusals`), so that anything else is tried at once. kept: the upstream's peers that stayed
    loaded instead.
    """

    upstream: str
    kind: Literal["upstream", "listener"]
    part: str
    error: str  # nginx's own line
    tries: int = 1
    kept: tuple[Peer, ...] = ()


class NginxState(Model):
    """One nginx of this server. `loaded` is the fingerprint its generation endpoint answers; None when it does not answer."""

    name: str
    loaded: str | None = None
    old_workers: int = 0  # workers of an edge that are shutting down; 0 for what only passes TCP on
    refused: str | None = None  # fingerprint of the text that it refused last; the loaded one if that could not be verified
    error: str | None = None  # nginx's own line for that
    tries: int = 0  # how often in a row, whatever the text was; without what failed on the server's side, such as a full disk
    refusals: tuple[Refusal, ...] = ()  # the parts that nginx's own line put the blame on


@dataclass(frozen=True)
class _Places:
    """Which container stands for an instance in a role, of `containers`."""

    containers: tuple[Container, ...]
    best: Mapping[tuple[InstanceKey, str], Container]
    pairs: Mapping[tuple[ServiceKey, int], tuple[str, str]]

    @classmethod
    def of(cls, containers: tuple[Container, ...]) -> _Places:
        best: dict[tuple[InstanceKey, str], Container] = {}
        pairs: dict[tuple[ServiceKey, int], tuple[str, str]] = {}
        for container in sorted(containers, key=lambda c: (not c.running, c.id)):
            labels = container.labels
            if (instance := container.instance) is not None:
                best.setdefault((instance, labels.role), container)
            if labels.service is not None and labels.addresses is not None:
                pairs.setdefault((labels.service, labels.replica), labels.addresses)
        return cls(containers, best, pairs)


class Observed(Model):
    """Everything `plan` may know of this server."""

    server: str
    containers: tuple[Container, ...] = ()
    pairs: Mapping[str, tuple[str, str]] = {}  # `service#replica` -> its slots' addresses, also while it has no container
    foreign: frozenset[str] = frozenset()  # names in use by containers that are not ours
    networks: Mapping[str, str] = {}  # every Docker network with a subnet: name -> subnet
    own_networks: frozenset[str] = frozenset()  # those of this server's projects, by label
    images: Mapping[str, ImageState] = {}  # by the reference asked for
    gates: Mapping[str, Gate] = {}  # by container id
    connections: Mapping[str, int] = {}  # established connections to the instance's port, by container id
    nginx: Mapping[str, NginxState] = {}  # by container name
    dead: Mapping[str, str] = {}  # listed backends, by address, that do not answer this server -> what was found instead
    busy_ports: frozenset[int] = frozenset()  # host ports in use by anybody else on the private address
    busy_loopback: frozenset[int] = frozenset()  # ports of the server's own 127.0.0.1 that are not our host listener's
    # Service key -> keyed hash of its secrets' contents; absent when it has none. `key@spec`: a version that names other secrets.
    locals: Mapping[str, str] = {}
    missing_secrets: Mapping[str, tuple[str, ...]] = {}  # the same keys -> names of secrets that have no file
    start_errors: Mapping[str, tuple[str, bool]] = {}  # instance or nginx -> (why it could not be started, whether that may pass)
    starting: frozenset[str] = frozenset()  # instances that are being started now, with the routes of when that began
    heals: Mapping[str, int] = {}  # instance name -> how often it was brought back lately, for the back-off
    warnings: Mapping[str, str] = {}  # service key -> what to warn of, such as exit 137

    def local(self, service: ServiceKey, spec: str) -> str | None:
        """The keyed hash of the contents of the secrets that a version of a service names; None when it has none."""
        return self.locals.get(f"{service}@{spec}", self.locals.get(str(service)))

    def missing(self, service: ServiceKey, spec: str) -> tuple[str, ...]:
        """The names of the secrets of a version of a service that have no file here."""
        return self.missing_secrets.get(f"{service}@{spec}", self.missing_secrets.get(str(service), ()))

    def of(self, instance: InstanceKey, role: str = "application") -> Container | None:
        """The container of an instance with a role, running ones first."""
        return self._index.best.get((instance, role))

    def pair(self, service: ServiceKey, replica: int) -> tuple[str, str] | None:
        """The addresses that a replica's containers carry in their labels, or carried when there last were any."""
        return self._index.pairs.get((service, replica)) or self.pairs.get(f"{service}#{replica}")

    def all_pairs(self) -> Iterator[tuple[ServiceKey, int, tuple[str, str]]]:
        """(service, replica, addresses of its slots) of everything that has or had containers here."""
        known = {f"{service}#{replica}": pair for (service, replica), pair in self._index.pairs.items()}
        for name, pair in {**self.pairs, **known}.items():
            service, _, replica = name.partition("#")
            yield ServiceKey.parse(service), int(replica), pair

    @property
    def _index(self) -> _Places:
        places = self._places
        if places.containers is not self.containers:  # this is a copy, made with other containers
            places = self.__dict__["_places"] = _Places.of(self.containers)
        return places

    @cached_property
    def _places(self) -> _Places:
        """Asked for with each upstream of each nginx: without it the time of a pass grows with the square of the containers."""
        return _Places.of(self.containers)


class Elapsed(Model):
    """How long facts have been so, on this machine's monotonic clock, by the fact's name. Unknown facts are new: 0."""

    seconds: Mapping[str, float] = {}

    def of(self, fact: str) -> float:
        """Seconds since the fact was first seen; 0.0 when it is new."""
        return self.seconds.get(fact, 0.0)
