"""Who decides when everybody could: each member in its turn, so that not all push the same decision at once.

Anybody may decide (no central controller), and a compare-and-swap lets one push win; the others' pushes would be wasted. So they
wait for a moment that grows with their rank: long enough to see that one before them has decided. Durations on the own clock only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

from reconciler.engine.ports import ClockPort

GATHER_SECONDS = 5.0
FAST_POLL = 2.0
_FAST_POLL_PER_MEMBER = 0.2
_TRIP_SECONDS = 2.0
_TRIP_MOST = 30.0
_REMEMBERED = 5
_TURNS = 5
WORDS_SECONDS = 30.0

Content = Literal["words", "images", "some votes", "all"]
"""What a decision holds: nothing but words about waiting; what tags are, too; the votes on some services while others are still
voted on; or all that there is to decide."""


def fast_poll(members: int) -> float:
    """Seconds between polls while others are about to say something: a large cluster must not outdo its Git host."""
    return max(FAST_POLL, _FAST_POLL_PER_MEMBER * members)


def rank(server: str, members: Sequence[str], last: str | None) -> int:
    """0 for who decided last, as it knows the tip best; then the others by name, round the circle from there."""
    order = sorted({*members, server})
    first = order.index(last) if last in order else 0
    return (order.index(server) - first) % len(order)


class Pace:
    """How long it takes to hear of each other, from how long this server's own polls and pushes took lately.

    A slow network or machine makes everybody late, and who does not wait for that decides in the turn of another one.
    """

    def __init__(self) -> None:
        self._polls: deque[float] = deque(maxlen=_REMEMBERED)
        self._pushes: deque[float] = deque(maxlen=_REMEMBERED)

    def polled(self, seconds: float) -> None:
        """A poll took so long, from the wish to the result."""
        self._polls.append(seconds)

    def pushed(self, seconds: float) -> None:
        """A push did."""
        self._pushes.append(seconds)

    def turn(self, members: int) -> float:
        """Seconds of one turn: its server polls once more and pushes, and the others see that with their next poll."""
        poll, push = max(self._polls, default=0.0), max(self._pushes, default=0.0)
        return fast_poll(members) + min(max(_TRIP_SECONDS, push + 2 * poll), _TRIP_MOST)

    def stagger(self, rank: int, members: int) -> float:
        """Seconds after which a member of this rank goes ahead.

        After the first few the turns overlap: so many that are silent are rare, and a wasted push is cheaper than a long wait then.
        """
        return self.turn(members) * (min(rank, _TURNS) + max(0, rank - _TURNS) / 3)

    def hearing(self, members: int) -> float:
        """Seconds within which everybody hears of a decision, does its part and has told, if that part is short."""
        return fast_poll(members) + self.turn(members) + GATHER_SECONDS


class Turns:
    """How long there has been something to decide on one tip of the cluster state."""

    def __init__(self, clock: ClockPort, pace: Pace) -> None:
        self._clock = clock
        self._pace = pace
        self._about: tuple[str | None, Content] | None = None
        self._since: float | None = None

    def nothing(self) -> None:
        """There is nothing to decide now."""
        self._since = None

    def wait(self, tip: str | None, content: Content, *, rank: int, members: int, asked: float) -> float | None:
        """Seconds until this server may propose; 0.0 means now. None: it has to look first at what the others have done meanwhile.

        content: of the decision; it is kept back as long as more that it could take with it may be about to come. asked: when the
        poll that this server's view is from was asked for.
        """
        now = self._clock.monotonic()
        if self._since is None or (tip, content) != self._about:
            self._about, self._since = (tip, content), now
        rests = {"words": WORDS_SECONDS, "images": self._pace.hearing(members), "some votes": GATHER_SECONDS, "all": 0.0}[content]
        came = self._since + rests + self._pace.stagger(rank, members)
        if came > now:
            return came - now
        known = asked >= came or (rank == 0 and now - asked <= self._pace.turn(members))
        return 0.0 if known else None
