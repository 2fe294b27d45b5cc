"""A clock that tests move by hand, and that may belong to another boot."""

from __future__ import annotations


class HandClock:
    """`now` in seconds, moved by `pass_by`."""

    def __init__(self, now: float = 1000.0, boot_id: str = "boot-1") -> None:
        self.now = now
        self.boot_id = boot_id

    def pass_by(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> int:
        return 1_700_000_000 + int(self.now)

    def boot(self) -> str:
        return self.boot_id
