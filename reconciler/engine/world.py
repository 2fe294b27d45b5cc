"""What a cycle is given, the outside and the operator's word, and what a pass comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.engine.performer import Watch
from reconciler.engine.ports import (
    ClockPort,
    DockerPort,
    GitPort,
    JobsPort,
    JournalPort,
    NginxPort,
    ProberPort,
    PulsesPort,
    SecretsPort,
)
from reconciler.errors import ReconcilerError
from reconciler.model.policy import Policy


@dataclass(frozen=True)
class World:
    """Everything outside, as ports."""

    docker: DockerPort
    nginx: NginxPort
    prober: ProberPort
    pulses: PulsesPort
    secrets: SecretsPort
    journal: JournalPort
    clock: ClockPort
    git: GitPort
    jobs: JobsPort


@dataclass(frozen=True)
class Identity:
    """This machine's random identity. `copied_from`: the one found in the state directory, which another machine had made."""

    own: str
    copied_from: str | None = None


@dataclass(frozen=True)
class Options:
    """What an operator set, and what this machine is. `epoch` makes a fresh random epoch.

    compact_after: commits from which on the history of a status ref is shortened; 0 for never.
    """

    identity: Identity
    program: str
    policy: Policy
    epoch: Callable[[], str]
    status: bool = True
    refuse_rewrite: bool = False
    pushes_per_minute: int = 6
    compact_after: int = 0
    watch: Watch = lambda when, effect: None
    say: Callable[[str], None] = lambda line: None


@dataclass
class Outcome:
    """What a pass came to. `busy`: something was begun or decided, look again soon. `next_in`: seconds until something is due.

    `active`: rollouts under way, by service, with what they wait for; `problem`: why nothing could be done at all. `poll_in`:
    seconds until the remote is worth asking again, sooner than usual: other members are about to say something.
    """

    busy: bool = False
    next_in: float | None = None
    active: Mapping[str, str] = field(default_factory=dict)
    problem: ReconcilerError | None = None
    poll_in: float | None = None
