"""Looks at the backends that this server's nginxes list, each once per round, without any waiting for another.

Nothing runs while there is nothing to look at: no thread, no timer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from reconciler.effects import probe_checks
from reconciler.effects.probe_checks import failure
from reconciler.model.gate import ProbeResult
from reconciler.model.pulse import BORN, INTERVAL, Pulse, beat

_AT_ONCE: Final = 64
_LONGEST: Final = 2.0  # seconds for one look, whatever the service's own timeout is


@dataclass(frozen=True)
class Backend:
    """What to look for at an address: GET `path`, or a connection that is kept."""

    path: str | None
    timeout: float


class Pulses:
    """Looks in the background, in rounds. `on_change` is called, from its thread, after a round in which one died or came back."""

    def __init__(self, on_change: Callable[[], None], interval: float = INTERVAL) -> None:
        self._on_change = on_change
        self._interval = interval
        self._lock = threading.Lock()
        self._watched: dict[str, Backend] = {}
        self._pulses: dict[str, Pulse] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def watch(self, backends: Mapping[str, Backend]) -> None:
        """The full set to look at from now on, by `host:port`. What is not in it is forgotten; what is, goes on."""
        with self._lock:
            self._watched = dict(backends)
            self._pulses = {address: pulse for address, pulse in self._pulses.items() if address in backends}
            begin = bool(backends) and self._thread is None and not self._stop.is_set()
            if begin:
                self._thread = threading.Thread(target=self._rounds, name="pulses", daemon=True)
                self._thread.start()

    def pulses(self) -> Mapping[str, Pulse]:
        """What has been looked at so far."""
        with self._lock:
            return dict(self._pulses)

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _rounds(self) -> None:
        while True:
            with self._lock:
                backends = dict(self._watched)
                if not backends or self._stop.is_set():
                    self._thread = None  # begun again with the next backend
                    return
            results = asyncio.run(_look_at_all(backends))
            if self._take(results):
                self._on_change()
            self._wake.wait(self._interval)

    def _take(self, results: Mapping[str, ProbeResult]) -> bool:
        """Whether any died or came back."""
        with self._lock:
            before = self._pulses
            now = {a: beat(before.get(a, BORN), result) for a, result in results.items() if a in self._watched}
            self._pulses = {**before, **now}
            return any(pulse.dead != before.get(address, BORN).dead for address, pulse in now.items())


async def _look_at_all(backends: Mapping[str, Backend]) -> Mapping[str, ProbeResult]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def look(address: str, backend: Backend) -> ProbeResult:
        seconds = min(backend.timeout, _LONGEST)
        async with limit:
            try:
                return await asyncio.wait_for(_look(address, backend), seconds)
            except TimeoutError:
                return failure(f"{address}: no answer within {seconds:g} s")

    found = await asyncio.gather(*(look(address, backend) for address, backend in backends.items()))
    return dict(zip(backends, found, strict=True))


async def _look(address: str, backend: Backend) -> ProbeResult:
    host, _, port = address.rpartition(":")
    if backend.path is not None:
        return await probe_checks.http(host, int(port), backend.path)
    return await probe_checks.tcp(host, int(port))
