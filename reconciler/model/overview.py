"""The whole cluster as anybody with read access to Git sees it: what Git tells, and what that comes to.

Times are those of commits, in seconds since 1970 by the clock of whoever committed. They are for people alone: nothing is decided
by them (DESIGN section 6, Time), and an age that compares the clocks of two machines is only about right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler.model.desired import ServerEntry
from reconciler.model.identity import Slot

Part = Literal["member", "newcomer", "silent newcomer", "removed", "unknown"]
"""A server's part. `newcomer`: in the inventory, reports, and no member yet. `silent newcomer`: has never reported.
`removed`: not in the inventory any more. `unknown`: neither the inventory nor a decision is readable."""


@dataclass(frozen=True)
class Moment:
    """A commit. `at`: seconds since 1970, `iso`: the same for people, in the committer's zone. `by`: the server that wrote it."""

    commit: str
    at: int
    iso: str
    by: str


@dataclass(frozen=True)
class Since:
    """The commit that made something so. `at_least`: the history does not go back further, so it may have been so for longer."""

    moment: Moment
    at_least: bool = False


@dataclass(frozen=True)
class Decided:
    """One commit of `status/cluster`, newest first where there are several. `services`: those that it speaks of.

    begins: an epoch began with it.
    """

    generation: int
    moment: Moment
    services: frozenset[str] = frozenset()
    begins: bool = False


@dataclass(frozen=True)
class Tip:
    """The tip of the config branch. `ahead`: its commits that are not followed yet; None: it does not contain what is followed."""

    revision: str
    moment: Moment
    ahead: int | None


@dataclass(frozen=True)
class Facts:
    """What Git tells besides the state and the reports. What could not be read is left out, and `problems` says so.

    servers: the inventory of the followed revision, None when it cannot be read. subjects: of config commits. live: which commit
    made live what is live, by service. reported: each report's last commit. machines: whose reports a server's name had, newest
    first, neighbours differ. unreadable: what is wrong with a report, by server.
    """

    tip: Tip | None = None
    servers: Mapping[str, ServerEntry] | None = None
    subjects: Mapping[str, str] = field(default_factory=dict)
    decisions: tuple[Decided, ...] = ()
    live: Mapping[str, Since] = field(default_factory=dict)
    reported: Mapping[str, Moment] = field(default_factory=dict)
    machines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Behind:
    """A member that has not seen (`seen`) or does not serve the current generation. `last`: the one it has seen, or serves.

    since: the oldest decision that it lacks; seconds: how long ago that was, about.
    """

    seen: bool
    last: int | None
    current: int
    since: Moment | None
    seconds: int | None


@dataclass(frozen=True)
class ServerGlance:
    """One server. `words`: what is not in order, one sentence each; `remarks`: what is worth knowing and in order."""

    server: str
    zone: str | None
    state: Literal["active", "drained"] | None
    part: Part
    program: str | None
    reported: Moment | None
    reported_seconds: int | None
    seen: int | None
    serves: int | None
    behind: Behind | None
    live: int
    words: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def in_order(self) -> bool:
        """Whether nothing about it needs a look."""
        return not self.words and self.behind is None


@dataclass(frozen=True)
class Place:
    """One instance of a service by the decision. `revision`: the config commit it was started for, None when that is not known.

    phase: what its server says of it, None when it says nothing.
    """

    server: str
    zone: str | None
    slot: Slot
    replica: int
    role: str
    revision: str | None
    phase: str | None


@dataclass(frozen=True)
class RolloutGlance:
    """A rollout under way. `waits_for` by name; `last`: the newest decision that speaks of the service."""

    id: str
    phase: str
    strategy: str
    revision: str
    subject: str
    cause: str
    waits_for: tuple[str, ...]
    last: Moment | None
    last_seconds: int | None


@dataclass(frozen=True)
class Refused:
    """A revision that failed its gate and is not tried again. `log`: the last words of the container that failed."""

    revision: str
    subject: str
    reason: str
    log: tuple[str, ...]


@dataclass(frozen=True)
class ServiceGlance:
    """One service. `aborted`: why the last attempt ended, which says nothing when what is live is desired again."""

    service: str
    live: str | None
    subject: str
    image: str | None
    since: Since | None
    since_seconds: int | None
    places: tuple[Place, ...]
    rollout: RolloutGlance | None
    held: str | None
    refused: Refused | None
    aborted: str | None
    words: tuple[str, ...]

    @property
    def in_order(self) -> bool:
        """Whether what is desired is live and every server says the same."""
        return not (self.rollout or self.held or self.refused or self.words) and self.live is not None


@dataclass(frozen=True)
class Overview:
    """Everything at a glance. `generation` and `config` are None when there is no readable decision. `problems`: of the whole."""

    generation: int | None
    epoch: str | None
    config: str | None
    subject: str
    decided: Moment | None
    decided_by: str | None
    decided_seconds: int | None
    tip: Tip | None
    tip_subject: str
    tip_seconds: int | None
    brake: str | None
    servers: tuple[ServerGlance, ...]
    services: tuple[ServiceGlance, ...]
    problems: tuple[str, ...]

    @property
    def in_order(self) -> bool:
        """Whether nothing needs a look: what is desired is live everywhere and everybody has seen and serves it."""
        whole = self.generation is not None and not self.problems and self.brake is None
        settled = all(server.in_order for server in self.servers) and all(service.in_order for service in self.services)
        return whole and settled and not (self.tip is not None and self.tip.ahead != 0)
