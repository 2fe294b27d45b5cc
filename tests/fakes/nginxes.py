"""The nginxes of one simulated server: `NginxPort` over processes in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.effects.nginx import Target
from reconciler.errors import Transient
from reconciler.model.observed import NginxState
from reconciler.model.switched import Switched
from tests.fakes.nginx import Refused, Resolve
from tests.fakes.nginx_process import OVERLAP, Process


@dataclass
class Nginxes:
    """What the adapter of the real ones offers, and how a world starts, ends and spoils them.

    clock: the server's time in seconds. resolve: what Docker's DNS answers the nginx of a name. counted: established connections
    by (process id, port). spoiled: nginxes that refuse whatever they are given, with the words they use.
    """

    clock: Callable[[], float]
    resolve: Callable[[str], Resolve]
    counted: Mapping[tuple[int, int], int] = field(default_factory=dict)
    spoiled: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    _refused: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    # What a world does

    def start(self, name: str) -> None:
        """Its container starts. Raises Refused when nginx does not load its file: then the container exits with code 1."""
        self.processes.pop(name, None)
        try:
            if name in self.spoiled:
                raise Refused(self.spoiled[name])
            self.processes[name] = Process(self.files[name], self.resolve(name))
        except Refused as error:
            self.complaints[name] = str(error)
            raise

    def end(self, name: str) -> None:
        """Its container exited."""
        self.processes.pop(name, None)

    def remove(self, name: str) -> None:
        """Its container is gone, and its log with it."""
        self.processes.pop(name, None)
        self.complaints.pop(name, None)

    def hang_up(self, name: str) -> None:
        """Nothing but the HUP, as of a program that dies before it verifies. Raises Refused."""
        if name in self.spoiled:
            raise Refused(self.spoiled[name])
        self.processes[name].reload(self.files[name], self.resolve(name), self.clock())

    # What the engine asks (engine.ports.NginxPort)

    def write(self, name: str, text: str) -> None:
        """Put a configuration in place for an nginx that is not running yet."""
        self.files[name] = text
        self._refused.pop(name, None)

    def forget(self, name: str) -> None:
        """Forget the configuration of an nginx whose container is gone."""
        self.files.pop(name, None)
        self._refused.pop(name, None)

    def read(self, name: str) -> str | None:
        """The file that it loads when it is started; None when there is none."""
        return self.files.get(name)

    def complaint(self, name: str) -> str | None:
        """The last line in a container's log in which nginx said why it refuses a configuration; a test says nothing there."""
        return self.complaints.get(name)

    def state(self, name: str, pid: int, port: int) -> NginxState:
        """What is loaded, and what was refused last."""
        process = self.processes.get(name)
        refused, error, tries = self._refused.get(name, (None, None, 0))
        return NginxState(
            name=name,
            loaded=process.loaded.fingerprint if process is not None else None,
            old_workers=process.shutting_down(self.clock()) if process is not None else 0,
            refused=refused,
            error=error,
            tries=tries,
        )

    def version(self, name: str) -> tuple[int, int, int]:
        """The version of a running nginx."""
        if name not in self.processes:
            raise Transient(f"{name} is not running")
        return (1, 31, 3)

    def switch(self, targets: Sequence[tuple[Target, int]]) -> Sequence[Switched]:
        """Bring each to its text. One that refuses keeps its old file and holds back no other."""
        return [self._switch(target, pid) for target, pid in targets]

    def connections(self, pid: int, port: int) -> int:
        """Established connections to a port inside of a container."""
        return self.counted.get((pid, port), 0)

    def _switch(self, target: Target, pid: int) -> Switched:
        name = target.name
        process = self.processes.get(name)
        try:
            if process is None:
                raise Refused(f"{name} could not be given its configuration: it is not running")
            if name in self.spoiled:
                raise Refused(self.spoiled[name])
            # The wait until no old worker accepts any more lies within the switch; the world's clock stands still meanwhile.
            process.reload(target.text, self.resolve(name), self.clock() - OVERLAP)
        except Refused as error:
            tries = self._refused[name][2] if name in self._refused else 0
            self._refused[name] = (target.fingerprint, str(error), tries + 1)
            return Switched(name, False, None, self.state(name, pid, target.port))
        self.files[name] = target.text
        self._refused.pop(name, None)
        return Switched(name, True, OVERLAP * 1000, self.state(name, pid, target.port))
