"""Time that passes when nothing is left to do now, and background jobs that take some of it."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence


class VirtualTime:
    """Events in order of time. As a clock it is every server's own: they agree, and nothing depends on that."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (self.now + max(0.0, seconds), next(self._order), event))

    def step(self) -> None:
        """The next event happens."""
        self.now, _, event = heapq.heappop(self._events)
        event()

    def run(self, until: Callable[[], bool], seconds: float) -> bool:
        """Until the condition holds; False when `seconds` have passed without."""
        end = self.now + seconds
        while not until():
            if not self._events or self._events[0][0] > end:
                self.now = end
                return until()
            self.step()
        return True

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> int:
        return 1_700_000_000 + int(self.now)

    def boot(self) -> str:
        return "boot"


class VirtualJobs:
    """Jobs that take `lasts(name)` seconds. What they do happens two thirds into that: a push has arrived at the host by then."""

    def __init__(self, time: VirtualTime, lasts: Callable[[str], float], wake: Callable[[], None]) -> None:
        self._time = time
        self._lasts = lasts
        self._wake = wake
        self._under_way: set[str] = set()
        self._done: list[tuple[str, object | Exception]] = []
        self._lanes: dict[str, deque[tuple[str, Callable[[], object]]]] = {}

    def submit(self, name: str, work: Callable[[], object], lane: str = "work") -> bool:
        if name in self._under_way:
            return False
        self._under_way.add(name)
        if lane in self._lanes:
            self._lanes[lane].append((name, work))
        else:
            self._lanes[lane] = deque()
            self._begin(lane, name, work)
        return True

    def running(self, name: str) -> bool:
        return name in self._under_way

    def take(self) -> Sequence[tuple[str, object | Exception]]:
        done, self._done = self._done, []
        self._under_way -= {name for name, _ in done}
        return done

    def _begin(self, lane: str, name: str, work: Callable[[], object]) -> None:
        lasts = self._lasts(name)
        self._time.after(lasts * 2 / 3, lambda: self._works(lane, name, work, lasts / 3))

    def _works(self, lane: str, name: str, work: Callable[[], object], rest: float) -> None:
        try:
            result: object | Exception = work()
        except Exception as error:
            result = error
        self._time.after(rest, lambda: self._ends(lane, name, result))

    def _ends(self, lane: str, name: str, result: object) -> None:
        self._done.append((name, result))
        if self._lanes[lane]:
            self._begin(lane, *self._lanes[lane].popleft())
        else:
            del self._lanes[lane]
        self._wake()
