"""This machine's clocks, and what tells it from a copy of it."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

MACHINE_IDS = (Path("/sys/class/dmi/id/product_uuid"), Path("/etc/machine-id"))
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """`monotonic` counts seconds from the boot (also while suspended), `wall` since 1970, for commit dates only."""

    def monotonic(self) -> float:
        """Seconds since the boot, the same in every process."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> int:
        """Seconds since 1970."""
        return int(time.time())

    def boot(self) -> str:
        """The identity of this boot: durations are never compared across two."""
        return BOOT_ID.read_text().strip()


def machine_id() -> str:
    """What differs between a virtual machine and its clone: the firmware's identity, else the installation's, else ""."""
    for path in MACHINE_IDS:
        with suppress(OSError):
            return path.read_text().strip()
    return ""
