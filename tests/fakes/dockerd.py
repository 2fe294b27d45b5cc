"""A simulated dockerd: what it keeps and does on one server, in virtual time, as far as `DockerPort` can tell.

Everything in here happens as a daemon does it, whoever asks; `tests.fakes.docker.FakeDocker` is the adapter in front of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf

from reconciler.errors import ReconcilerError
from reconciler.model.container import ContainerPlan
from tests.fakes.docker_things import RESTART_DELAY, Box, EngineError, Program, Stored, digest
from tests.fakes.docker_wires import Wires

MOST_RESTART_DELAY = 60.0
STEADY_SECONDS = 10.0
KILLED = 137


class Dockerd(Wires):
    """One dockerd.

    clock: seconds. program: what starts in a container, asked at each start. ended: told of each end. watch: called with "before"
    and "after", the verb and its subject of each call that comes through the adapter; raises to disturb it.
    """

    def __init__(
        self,
        clock: Callable[[], float] = lambda: 0.0,
        program: Callable[[Box], Program] = lambda box: Program(),
        ended: Callable[[Box], None] = lambda box: None,
        seed: str = "",
    ) -> None:
        self.clock = clock
        self.program = program
        self.ended = ended
        self.watch: Callable[[str, str, str], None] = lambda when, verb, subject: None
        super().__init__()
        self.images: dict[str, Stored] = {}
        self.registry: dict[str, Stored | ReconcilerError] = {}
        self.builds: Callable[[str, str], Stored | ReconcilerError] = lambda tag, server: Stored(
            digest(tag), digest(tag), built_by=server
        )
        self.volumes: set[str] = set()
        self.foreign_ports: set[tuple[str, int]] = set()
        self._seed = seed
        self._count = 0

    # What a daemon is asked for

    def create(self, plan: ContainerPlan, *, ours: bool = True) -> Box:
        """Make a container. Raises EngineError."""
        if plan.name in self._names:
            raise EngineError(409, f'Conflict. The container name "/{plan.name}" is already in use')
        image = self.images.get(plan.image)
        if image is None:
            raise EngineError(404, f"No such image: {plan.image}")
        owner = self._names.get(plan.namespace_of) if plan.namespace_of is not None else None
        if plan.namespace_of is not None and owner is None:
            raise EngineError(404, f"No such container: {plan.namespace_of}")
        for mount in plan.mounts:
            if mount.kind == "volume":
                self.volumes.add(mount.source)
        self._count += 1
        self.writes += 1
        endpoints: dict[str, str | None] = {}
        if plan.host_network:
            endpoints = {"host": None}
        elif owner is None:
            endpoints = {plan.network or "bridge": plan.address}
        box = Box(
            id=digest(f"{self._seed}{self._count}"),
            name=plan.name,
            plan=plan,
            ours=ours,
            created=self._count,
            image_id=image.id,
            joined=owner.id if owner is not None else None,
            endpoints=endpoints,
            aliases={plan.network: plan.aliases} if plan.network else {},
            stop_signal=plan.stop_signal or image.stop_signal,
            restart=plan.restart,
        )
        self.boxes[box.id] = self._names[box.name] = box
        return box

    def start(self, box: Box) -> None:
        """Start it; nothing happens when it is up. Raises EngineError, and it stays as it was."""
        if box.status == "paused":
            raise EngineError(409, "cannot start a paused container, try unpause instead")
        if box.up:
            return
        self.writes += 1
        box.version += 1
        try:
            inside = self._join(box)
            self._take_ports(box)
            box.addresses = self._take_addresses(box)
            box.program = self.program(box)
            if box.program.wrong is not None:
                raise EngineError(400, f"OCI runtime create failed: {box.program.wrong}")
        except EngineError as error:
            box.addresses = {}
            box.exit_code = 127 if error.code == 400 else 128
            raise
        self._count += 1
        box.status, box.pid, box.exit_code, box.started = "running", 10_000 + self._count, 0, self.clock()
        box.inside, box.namespace = inside, self._count
        box.ends_at, box.restarts_at, box.stopped_by_hand = self.clock() + box.program.after, inf, False
        box.restarts, box.delay = 0, RESTART_DELAY

    def signal(self, box: Box, signal: str | None, *, wish: bool) -> bool:
        """Send a signal; whether there was a process to hear it. `wish`: it is meant to end it, so no policy starts it again.

        Frozen processes hear it when they go on, but for SIGKILL.
        """
        if not box.up:
            return False
        box.stopped_by_hand = box.stopped_by_hand or wish
        if signal == "SIGKILL":
            self.end(box, KILLED)
        elif box.status == "running" and box.program.on_signal is not None and signal not in ("SIGHUP", "SIGCONT"):
            self.end(box, box.program.on_signal)
        return True

    def stop(self, box: Box) -> None:
        """Stop signal, the grace, SIGKILL."""
        box.restarts_at = inf
        if box.status == "restarting":
            box.status = "exited"
        if not box.up:
            return
        self.writes += 1
        box.stopped_by_hand = True
        self.end(box, KILLED if box.status == "paused" or box.program.on_signal is None else box.program.on_signal)

    def remove(self, box: Box) -> None:
        """Remove what is not up. Volumes stay."""
        if box.up or box.status == "restarting":
            raise EngineError(
                409, f"You cannot remove a {box.status} container {box.id}. Stop the container before attempting removal"
            )
        self.writes += 1
        self.forget(box)

    def pause(self, box: Box, *, frozen: bool) -> None:
        """Freeze it or let it go on."""
        if box.status == ("running" if frozen else "paused"):
            box.status = "paused" if frozen else "running"
            box.version += 1

    def rename(self, box: Box, name: str) -> None:
        """Give it another name."""
        del self._names[box.name]
        box.name = name
        box.version += 1
        self._names[name] = box

    def settle(self) -> None:
        """Let everything happen that is due by now: programs that exit, and their restarts."""
        now = self.clock()
        while True:
            due = min(self.boxes.values(), key=lambda box: min(box.ends_at, box.restarts_at), default=None)
            if due is None or min(due.ends_at, due.restarts_at) > now:
                return
            if due.ends_at <= due.restarts_at:
                self.end(due, due.program.code)
            else:
                self.restart(due)

    # Inside

    def _take_ports(self, box: Box) -> None:
        for published in box.plan.publish:
            wanted = (published.host_address, published.host_port)
            others = {(p.host_address, p.host_port) for other in self.boxes.values() if other.up for p in other.plan.publish}
            for address, port in others | self.foreign_ports:
                if port == wanted[1] and (address == wanted[0] or "0.0.0.0" in (address, wanted[0])):
                    raise EngineError(500, f"Bind for {wanted[0]}:{port} failed: port is already allocated")

    def end(self, box: Box, code: int) -> None:
        """Its process is gone; its restart policy decides."""
        again = not box.stopped_by_hand and (
            box.restart in ("always", "unless-stopped") or (box.restart == "on-failure" and code != 0)
        )
        steady = self.clock() - box.started >= STEADY_SECONDS
        self.exited(box, code)
        if again:
            box.delay = RESTART_DELAY if steady else box.delay
            box.status, box.restarts_at = "restarting", self.clock() + box.delay
            box.delay = min(2 * box.delay, MOST_RESTART_DELAY)

    def exited(self, box: Box, code: int) -> None:
        """Its process is gone."""
        box.status, box.exit_code, box.pid, box.ends_at, box.restarts_at = "exited", code, 0, inf, inf
        box.addresses = {}
        box.version += 1
        self.ended(box)

    def restart(self, box: Box) -> None:
        """As its policy says; a start by hand counts from nothing."""
        count, delay = box.restarts + 1, box.delay
        box.restarts_at, box.status = inf, "exited"
        with suppress(EngineError):
            self.start(box)
        box.restarts, box.delay = count, delay

    def forget(self, box: Box) -> None:
        """It is removed."""
        del self.boxes[box.id]
        del self._names[box.name]
