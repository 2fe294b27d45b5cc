"""A running nginx in virtual time: a master, its workers and those of before the last reloads (NGINX.md, "The switch")."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from tests.fakes.nginx import Loaded, Resolve, load

OVERLAP = 0.1  # the master lets the old workers go on accepting for 100 ms before it tells them to quit


@dataclass
class Connection:
    """A client's connection, which is served with the configuration that it was accepted under. Open ones keep an old worker.

    until: when it ends by itself; inf for one that somebody has to cut.
    """

    loaded: Loaded
    until: float


@dataclass
class Worker:
    """The workers of one load. `quits`: when they were told to shut down; they accept until then. `ends`: when they are cut."""

    loaded: Loaded
    quits: float = inf
    ends: float = inf
    connections: list[Connection] = field(default_factory=list)

    def accepts(self, now: float) -> bool:
        """Whether a new connection may still land here."""
        return now < self.quits

    def alive(self, now: float) -> bool:
        """Whether anything of it is left."""
        if now < self.quits:
            return True
        return now < self.ends and any(connection.until > now for connection in self.connections)


class Process:
    """nginx in a container. `Process(...)` is its start: it raises Refused, and the container exits."""

    def __init__(self, text: str, resolve: Resolve) -> None:
        self._current = Worker(load(text, resolve))
        self._old: list[Worker] = []

    @property
    def loaded(self) -> Loaded:
        """What new connections get, once the last reload is verified."""
        return self._current.loaded

    def reload(self, text: str, resolve: Resolve, now: float) -> None:
        """A HUP. Raises Refused, and goes on as before; otherwise new workers accept at once, and the old ones end as they may."""
        loaded = load(text, resolve)
        old = self._current
        old.quits = now + OVERLAP
        old.ends = old.quits + (old.loaded.shutdown_timeout or inf)
        self._old = [*self.old(now), old]
        self._current = Worker(loaded)

    def old(self, now: float) -> list[Worker]:
        """The workers of earlier loads that are not gone, the oldest first."""
        self._old = [worker for worker in self._old if worker.alive(now)]
        return self._old

    def shutting_down(self, now: float) -> int:
        """How many loads' workers are shutting down: what `NginxState.old_workers` is about."""
        return sum(1 for worker in self.old(now) if not worker.accepts(now))

    def carrying(self, now: float) -> tuple[Loaded, ...]:
        """Every configuration that a connection may be served by now: the newest first, then those of the old workers."""
        return (self.loaded, *(worker.loaded for worker in reversed(self.old(now))))

    def open(self, now: float, until: float = inf) -> Connection:
        """A client connects, and stays until then (a websocket: for ever; one that says nothing: `header_timeout`)."""
        worker = self._current
        connection = Connection(worker.loaded, until)
        worker.connections = [held for held in worker.connections if held.until > now]
        worker.connections.append(connection)
        return connection
