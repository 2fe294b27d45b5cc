"""What the engine needs of the outside, as Protocols: the adapters satisfy them, and so do the simulation's worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.effects.probes import Target
from reconciler.effects.pulses import Backend
from reconciler.errors import ReconcilerError, Stalled
from reconciler.model.container import ContainerPlan
from reconciler.model.desired import Build, Revision
from reconciler.model.effect import SwitchTarget
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Container, Gate, Image, NginxState
from reconciler.model.pulse import Pulse
from reconciler.model.source import Files
from reconciler.model.switched import Switched


class DockerPort(Protocol):
    """One Docker Engine. Methods raise Transient or Stalled."""

    def containers(self) -> tuple[tuple[Container, ...], frozenset[str]]: ...
    def networks(self) -> Mapping[str, str]: ...
    def own_networks(self) -> Mapping[str, str]: ...
    def create(self, plan: ContainerPlan) -> str: ...
    def start(self, identity: str) -> None: ...
    def unpause(self, identity: str) -> None: ...
    def stop(self, identity: str, signal: str | None = None, grace: float = 10.0) -> int | None: ...
    def kill(self, identity: str, signal: str | None) -> None: ...
    def remove(self, identity: str) -> None: ...
    def restore(self, identity: str, plan: ContainerPlan) -> None: ...
    def create_network(self, name: str, subnet: str, labels: Mapping[str, str] | None = None) -> None: ...
    def connect(self, container: str, network: str, address: str) -> None: ...
    def disconnect(self, container: str, network: str) -> None: ...
    def remove_network(self, name: str) -> None: ...
    def image(self, reference: str) -> Image | None: ...
    def pull(self, reference: str) -> Image: ...
    def build(
        self, tag: str, context: Mapping[str, tuple[int, bytes]], dockerfile: str, seconds: float = 900.0
    ) -> tuple[str, ...]: ...
    def remove_unused_images(self, keep: frozenset[str]) -> tuple[str, ...]: ...
    def logs(self, identity: str, tail: int = 20) -> tuple[str, ...]: ...
    def ports_in_use(self, address: str, besides: int = 0) -> frozenset[int]: ...
    def invalidate(self, identity: str | None = None) -> None: ...


class NginxPort(Protocol):
    """The nginxes of this server."""

    def write(self, name: str, text: str) -> None: ...
    def forget(self, name: str) -> None: ...
    def read(self, name: str) -> str | None:
        """The file that it loads when it is started; None when there is none."""
        ...

    def state(self, name: str, pid: int, port: int) -> NginxState: ...
    def complaint(self, name: str) -> str | None:
        """The last line in which nginx said why it refuses a configuration; None when there is none, or no such container."""
        ...

    def version(self, name: str) -> tuple[int, int, int]:
        """Raises Stalled when it is too old for a switch without losses."""
        ...

    def switch(self, targets: Sequence[tuple[SwitchTarget, int]]) -> Sequence[Switched]:
        """Targets with the process id of their master."""
        ...

    def connections(self, pid: int, port: int) -> int:
        """Established connections to `port` inside the namespace of `pid`, without the server's own probes."""
        ...


class ProberPort(Protocol):
    """Runs the health probes in the background."""

    def watch(self, targets: Mapping[str, Target]) -> None: ...
    def gates(self) -> Mapping[str, Gate]: ...


class PulsesPort(Protocol):
    """Looks at the backends that nginxes list, by address, in the background."""

    def watch(self, backends: Mapping[str, Backend]) -> None: ...
    def pulses(self) -> Mapping[str, Pulse]: ...


class SecretsPort(Protocol):
    """The server's own secrets, by service."""

    def digests(self, wanted: Mapping[ServiceKey, tuple[str, ...]]) -> Mapping[str, str]: ...
    def missing(self, wanted: Mapping[ServiceKey, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]: ...
    def redact(self, service: ServiceKey, names: tuple[str, ...], lines: tuple[str, ...]) -> tuple[str, ...]: ...


class JournalPort(Protocol):
    """Small durable files in the state directory: written to a temporary name, synced and renamed."""

    def read(self, name: str) -> bytes | None: ...
    def write(self, name: str, data: bytes) -> None: ...


class ClockPort(Protocol):
    """This machine's clocks. Only durations of `monotonic` are ever compared."""

    def monotonic(self) -> float: ...
    def wall(self) -> int: ...
    def boot(self) -> str: ...


@dataclass(frozen=True)
class Snapshot:
    """What the last poll brought. `reports` and `cluster` are raw; `files` are those of every revision asked for.

    A report that is too large to be read is there as what says so; a shared file that is, as an empty one.
    """

    revision: Revision
    files: Mapping[str, Files]
    cluster: bytes | None
    cluster_oid: str | None
    reports: Mapping[str, bytes | Stalled]
    report_oids: Mapping[str, str]
    rewritten: str | None = None  # the tip before, if the new one does not descend from it
    behind: bool = False  # the tip is older than the revision that the cluster state follows
    lacks: str | None = None  # the decision that was asked about, if the history of the shared one does not have it
    error: ReconcilerError | None = None  # the config is new, and the status remote could not be asked


@dataclass(frozen=True)
class Publication:
    """One status file to be pushed, on top of `parent`. merges: a commit that the ref had lost, and this one has again."""

    ref: str
    files: Mapping[str, bytes]
    parent: str | None
    message: str
    merges: str | None = None


@dataclass(frozen=True)
class Published:
    """`landed` by ref: the new tip, or None when somebody else's push came first (`tips` has it) or nobody knows (`error`)."""

    landed: Mapping[str, str | None]
    tips: Mapping[str, str | None] = field(default_factory=dict)
    error: str | None = None


class GitPort(Protocol):
    """The repository. Called from one background thread only."""

    def poll(self, needed: frozenset[str], followed: str | None, decision: str | None = None) -> Snapshot:
        """One fetch, and the files of the config tip and of the `needed` revisions.

        followed: see `Snapshot.behind`. decision: see `Snapshot.lacks`.
        """
        ...

    def last(self, needed: frozenset[str], followed: str | None, decision: str | None = None) -> Snapshot | None:
        """What the last fetch left, without asking anybody."""
        ...

    def publish(self, publications: Sequence[Publication], when: int) -> Published:
        """One push."""
        ...

    def compact(self, refs: Sequence[str], after: int) -> tuple[str, ...]:
        """Shorten long histories of status refs; those that were."""
        ...

    def context(self, build: Build) -> Mapping[str, tuple[int, bytes]]:
        """The files of a build context."""
        ...


class JobsPort(Protocol):
    """Work in the background: named, one at a time per name; results are taken by the pass."""

    def submit(self, name: str, work: Callable[[], object], lane: str = "work") -> bool:
        """Start `work` unless a job of that name is under way. Jobs of one lane run one after another."""
        ...

    def running(self, name: str) -> bool: ...
    def take(self) -> Sequence[tuple[str, object | Exception]]:
        """Finished jobs since the last call, in order."""
        ...
