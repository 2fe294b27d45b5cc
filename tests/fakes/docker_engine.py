"""A simulated Docker Engine on a server: the daemon, and what people, crashes and power cuts do to it."""

from __future__ import annotations

from tests.fakes.docker_things import RESTART_DELAY, Box, EngineError, Network, Program, Stored, image
from tests.fakes.dockerd import KILLED, Dockerd

__all__ = ["Box", "Engine", "EngineError", "Network", "Program", "Stored", "image"]


class Engine(Dockerd):
    """A daemon and its fate."""

    def crash(self, box: Box, code: int = KILLED) -> None:
        """Its process dies, not by Docker: its restart policy applies."""
        if box.up:
            self.end(box, code)

    def kill_by_hand(self, box: Box) -> None:
        """`docker kill`: no policy starts it again."""
        self.signal(box, "SIGKILL", wish=True)

    def restart_by_hand(self, box: Box) -> None:
        """`docker restart`."""
        self.stop(box)
        self.start(box)

    def remove_by_hand(self, box: Box) -> None:
        """`docker rm -f`."""
        if box.up:
            box.stopped_by_hand = True
            self.end(box, KILLED)
        self.forget(box)

    def restart_daemon(self) -> None:
        """Docker is restarted, without `live-restore`: its containers are stopped, and started as their policies say."""
        self.settle()
        ran = [box for box in self.boxes.values() if box.up or box.status == "restarting"]
        for box in ran:
            self.exited(box, KILLED if box.status == "paused" or box.program.on_signal is None else box.program.on_signal)
        self._begin(ran)

    def power_cut(self) -> None:
        """Every process is gone at once; then dockerd starts, and starts containers as their policies say."""
        self.settle()
        ran = [box for box in self.boxes.values() if box.up or box.status == "restarting"]
        for box in ran:
            self.exited(box, 255)
        self._begin(ran)

    def _begin(self, ran: list[Box]) -> None:
        """dockerd starts: what ran and what is always to run is started, those first whose namespaces others share."""
        for box in sorted(self.boxes.values(), key=lambda box: (box.joined is not None, box.created)):
            again = box.restart == "always" or (box.restart == "unless-stopped" and box in ran)
            failed = box.restart == "on-failure" and box in ran and box.exit_code != 0
            if box.status == "exited" and (again or failed):
                box.delay = RESTART_DELAY
                self.restart(box)
                box.restarts = 0
