"""This machine's clocks."""

from __future__ import annotations

import time
from pathlib import Path

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
