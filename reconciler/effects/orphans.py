"""Processes of a container that Docker has lost sight of, found by their control group."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def end_processes(identity: str) -> int:
    """SIGKILL to whatever runs in the control group of a container, by its whole id. Returns how many processes there were.

    A dockerd that ends in the midst of a start can leave a process behind that no Docker command reaches any more; before such a
    container is made anew, nothing of it may go on with its volumes.
    """
    ended = 0
    for path in PROC.glob("[0-9]*/cgroup"):
        with suppress(OSError):  # it may end by itself meanwhile
            if any(identity in line.rpartition("/")[2] for line in path.read_text().splitlines()):
                os.kill(int(path.parent.name), signal.SIGKILL)
                ended += 1
    return ended
