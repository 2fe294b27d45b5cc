"""What a simulated Docker Engine keeps: containers, networks, images, and the programs that run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from reconciler.model.container import ContainerPlan
from reconciler.model.observed import ContainerStatus

RESTART_DELAY = 0.1  # seconds; doubled with each restart, and back after a while of running (moby restartmanager)


class EngineError(Exception):
    """What a daemon answers instead. `code` is that of HTTP."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


@dataclass(frozen=True)
class Program:
    """What runs in a container, from its start on.

    after: seconds until it exits by itself with `code`; inf for one that stays. on_signal: its exit code when it hears its stop
    signal; None: it ignores it. wrong: Docker's words when it cannot even be started. listens: TCP ports in its namespace.
    """

    after: float = inf
    code: int = 0
    on_signal: int | None = 0
    wrong: str | None = None
    listens: frozenset[int] = frozenset()
    output: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stored:
    """An image. `built_by`: the server whose reconciler built it here."""

    id: str
    reference: str
    volumes: tuple[str, ...] = ()
    exposed: tuple[int, ...] = ()
    built_by: str | None = None
    stop_signal: str | None = None


@dataclass
class Network:
    """A bridge. `server`: whose label it carries."""

    name: str
    subnet: str
    server: str | None


@dataclass
class Box:
    """A container. `plan`: what it was made from; `ours`: its labels can be read (a foreign one has none).

    endpoints: network -> its fixed address, or None. addresses: network -> the one it has now. joined: id of the container whose
    network namespace it shares, and `inside` that namespace as it was at the start. by_hand: changes that are drift, in words.
    """

    id: str
    name: str
    plan: ContainerPlan
    ours: bool
    created: int
    image_id: str
    joined: str | None
    endpoints: dict[str, str | None]
    aliases: dict[str, tuple[str, ...]]
    stop_signal: str | None
    restart: str
    status: ContainerStatus = "created"
    pid: int = 0
    exit_code: int = 0
    restarts: int = 0
    started: float = 0.0
    addresses: dict[str, str] = field(default_factory=dict)
    namespace: int = 0
    inside: int = 0
    program: Program = Program()
    ends_at: float = inf
    restarts_at: float = inf
    delay: float = RESTART_DELAY
    stopped_by_hand: bool = False
    by_hand: list[str] = field(default_factory=list)
    version: int = 0  # grows with each change

    @property
    def up(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self.status in ("running", "paused")

    @property
    def networks(self) -> tuple[str, ...]:
        """Those it is on; while it is not up, those it is to be on. One that it could not join is promised to its next start."""
        return tuple(sorted(network for network in self.endpoints if not self.up or network in self.addresses or network == "host"))


def image(reference: str, volumes: Sequence[str] = (), exposed: Sequence[int] = ()) -> Stored:
    """An image as a registry or a build has it."""
    return Stored(digest(reference), digest(reference), tuple(volumes), tuple(exposed))


def digest(text: str) -> str:
    """An id."""
    return hashlib.sha256(text.encode()).hexdigest()
