"""The cluster state: the shared decision, in `status/cluster:cluster.yaml` (DESIGN section 6, "A rollout in files")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from reconciler.model.base import Tolerant
from reconciler.model.identity import Slot

SCHEMA = 1

Phase = Literal["staging", "replacing", "switching", "soaking", "draining", "done", "aborted"]
Role = Literal["live", "staged", "kept", "draining"]
RolloutStrategy = Literal["toggle", "rolling", "recreate", "remove", "refresh"]


class Live(Tolerant):
    """What has the traffic. `image` is immutable (`name@sha256:...` or a local image id) once it is known."""

    spec: str
    revision: str
    image: str | None = None


class Backend(Tolerant):
    """One instance that the decision knows. `port` is the published host port, None in single_server mode; `container_port` is what
    the application listens on: a new version may listen on another one than the old one beside it.

    `kept`: without traffic, and running all the same, as the way back while a rolling rollout is not over.
    """

    server: str
    replica: int = 1
    slot: Slot
    port: int | None = None
    container_port: int | None = None
    spec: str
    role: Role
    weight: int = 0


class Rollout(Tolerant):
    """One attempt to bring a service to `target`. `id` is `<config revision>/<attempt>`; votes name it."""

    id: str
    target: str
    revision: str
    image: str | None = None
    strategy: RolloutStrategy
    phase: Phase
    attempt: int = 1
    switched_at: int | None = None  # the generation that everyone has to acknowledge
    replacing: str | None = None  # recreate: the server whose turn it is
    batch: tuple[str, ...] = ()  # rolling: the servers whose turn it is; none once the line has come to its end
    switched: tuple[str, ...] = ()  # rolling: the servers that have had their turn, the batch among them
    returned: str | None = None  # rolling: why the line was stopped; what goes back does so in the phases after a switch
    scope: tuple[str, ...] | None = None  # only these servers: what changed is their own, such as the contents of secrets
    cause: str
    reason: str | None = None  # why it was aborted, waits or goes slowly

    @property
    def in_line(self) -> bool:
        """Whether it goes from server to server and has not come to the end of the line."""
        return bool(self.batch) and self.phase in ("staging", "switching", "soaking")


class Rejected(Tolerant):
    """A digest that failed its gate; not tried again until the digest changes or someone asks."""

    spec: str
    revision: str
    reason: str
    log: tuple[str, ...] = ()  # the last lines of the failed container, redacted and bounded


class ServiceState(Tolerant):
    """One service in the decision. `held` says by name why what is live is not what is desired."""

    internal_port: int
    container_port: int
    live: Live | None = None
    previous: Live | None = None  # what was live before, whose image is kept for a way back
    others: tuple[Live, ...] = ()  # what else is live on single servers, or drains, after a line was stopped
    rollout: Rollout | None = None
    rejected: Rejected | None = None
    held: str | None = None
    backends: tuple[Backend, ...] = ()
    retries: int = 0  # attempts after transient causes, reset by success

    def revision_of(self, spec: str) -> str | None:
        """The config revision for which instances of a spec were started; None when nothing in the decision says so."""
        rollout = self.rollout
        target = Live(spec=rollout.target, revision=rollout.revision) if rollout is not None else None
        known = (self.live, target, self.previous, *self.others)
        return next((at.revision for at in known if at is not None and at.spec == spec), None)


class Decider(Tolerant):
    """Who made the decision, and with which program."""

    server: str
    program: str


class ClusterState(Tolerant):
    """The shared decision. Generations only grow within an epoch."""

    schema_: int = Field(default=SCHEMA, alias="schema")
    epoch: str
    superseded: tuple[str, ...] = ()  # the epochs before, so that one that is put back by hand is known for what it is
    superseded_at: Mapping[str, int] = {}  # the generation that each of them had for whoever gave it up
    generation: int
    decided_by: Decider
    members: tuple[str, ...]
    config: str  # the config revision followed
    brake: str | None = None  # why removals are held back
    addresses: Mapping[str, str] = {}  # of servers that backends name: one out of the inventory is reached until all has moved
    services: Mapping[str, ServiceState] = {}
