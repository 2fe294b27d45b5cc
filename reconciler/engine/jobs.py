"""Work in the background, in threads: named, one at a time per name, lanes in order. A result counts when the pass takes it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence


class ThreadJobs:
    """`on_done` is called, from the worker's thread, after each finished job: to wake the pass."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._done: list[tuple[str, object | Exception]] = []
        self._lanes: dict[str, deque[tuple[str, Callable[[], object]]]] = {}

    def submit(self, name: str, work: Callable[[], object], lane: str = "work") -> bool:
        """Start `work` in its lane unless a job of that name is under way (running, or its result not taken yet)."""
        with self._lock:
            if name in self._under_way:
                return False
            self._under_way.add(name)
            queue = self._lanes.get(lane)
            if queue is not None:
                queue.append((name, work))
                return True
            self._lanes[lane] = deque([(name, work)])
        threading.Thread(target=self._run, args=(lane,), name=f"lane {lane}", daemon=True).start()
        return True

    def running(self, name: str) -> bool:
        """Whether a job of that name is under way."""
        with self._lock:
            return name in self._under_way

    def busy(self) -> bool:
        """Whether any job is under way."""
        with self._lock:
            return bool(self._under_way)

    def working(self, prefix: str) -> bool:
        """Whether a job whose name begins so is still being worked on (its result not in yet)."""
        with self._lock:
            done = {name for name, _ in self._done}
            return any(name.startswith(prefix) for name in self._under_way - done)

    def take(self) -> Sequence[tuple[str, object | Exception]]:
        """Finished jobs since the last call, in the order in which they ended."""
        with self._lock:
            done, self._done = self._done, []
            self._under_way -= {name for name, _ in done}
            return done

    def _run(self, lane: str) -> None:
        while True:
            with self._lock:
                queue = self._lanes[lane]
                if not queue:
                    del self._lanes[lane]
                    return
                name, work = queue.popleft()
            result: object | Exception
            try:
                result = work()
            except Exception as error:
                result = error
            with self._lock:
                self._done.append((name, result))
            self._on_done()
