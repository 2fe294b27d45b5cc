"""Who decides when everybody could: each member in its turn, so that not all push the same decision at once.

Anybody may decide (no central controller), and a compare-and-swap lets one push win; the others' pushes would be wasted. So they
wait for a moment that grows with their rank: long enough to see that one before them has decided. Durations on the own clock only.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.engine.ports import ClockPort

GATHER_SECONDS = 5.0
FAST_POLL = 2.0
_FAST_POLL_PER_MEMBER = 0.2
_PUSH_SECONDS = 2.0
_TURNS = 5


def fast_poll(members: int) -> float:
    """Seconds between polls while others are about to say something: a large cluster must not outdo its Git host."""
    return max(FAST_POLL, _FAST_POLL_PER_MEMBER * members)


def rank(server: str, members: Sequence[str], last: str | None) -> int:
    """0 for who decided last, as it knows the tip best; then the others by name, round the circle from there."""
    order = sorted({*members, server})
    first = order.index(last) if last in order else 0
    return (order.index(server) - first) % len(order)


def stagger(rank: int, members: int) -> float:
    """Seconds after which a member of this rank goes ahead: a turn lasts as long as a push and the poll that shows it.

    After the first few the turns overlap: so many that are silent are rare, and a wasted push is cheaper than a long wait then.
    """
    turn = _PUSH_SECONDS + fast_poll(members)
    return turn * (min(rank, _TURNS) + max(0, rank - _TURNS) / 3)


class Turns:
    """How long there has been something to decide on one tip of the cluster state."""

    def __init__(self, clock: ClockPort) -> None:
        self._clock = clock
        self._about: tuple[str | None, bool] | None = None
        self._since: float | None = None

    def nothing(self) -> None:
        """There is nothing to decide now."""
        self._since = None

    def wait(self, tip: str | None, *, rank: int, members: int, gathering: bool) -> float:
        """Seconds until this server may propose; 0.0 means now.

        gathering: more votes are about to come, which one decision can take with these for up to `GATHER_SECONDS`.
        """
        now = self._clock.monotonic()
        if self._since is None or (tip, gathering) != self._about:
            self._about, self._since = (tip, gathering), now
        rest = stagger(rank, members) + (GATHER_SECONDS if gathering else 0.0)
        return max(0.0, self._since + rest - now)
