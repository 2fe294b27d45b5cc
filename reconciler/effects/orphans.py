"""Processes of a container that Docker has lost sight of, found by their control group."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
WHOLE = 64


def end_processes(identity: str, proc: Path = PROC) -> int:
    """SIGKILL to whatever runs in the control group of a container, or in one that it made below. Returns how many processes.

    identity: the container's whole id; a ValueError if it is not, as less may be found in what is another's.

    A dockerd that ends in the midst of a start can leave a process behind that no Docker command reaches any more; before such a
    container is made anew, nothing of it may go on with its volumes.
    """
    if len(identity) != WHOLE:
        raise ValueError(f"not a container's whole id: {identity!r}")
    ended = 0
    for path in proc.glob("[0-9]*/cgroup"):
        with suppress(OSError):  # it may end by itself meanwhile
            if identity in path.read_text():
                os.kill(int(path.parent.name), signal.SIGKILL)
                ended += 1
    return ended
