"""The health prober: looks at each container that has yet to pass its gate, without any waiting for another (FAULTS 8, 9, 10)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

from reconciler.effects import probe_checks
from reconciler.effects.docker_list import process_start
from reconciler.effects.probe_checks import SUCCESS, failure
from reconciler.errors import ReconcilerError
from reconciler.model.desired import Health
from reconciler.model.gate import CLOSED, ProbeResult, advance
from reconciler.model.observed import Gate

_THREADS: Final = 16  # for commands and Docker's state, which block; HTTP and TCP need none
_LOG_LINES: Final = 20


@dataclass(frozen=True)
class Target:
    """What to look at. `started`: when it was started, on the prober's clock; None: when it was first watched.

    `pid`: its first process on the host, 0 while it does not run. `ended`: why it will not run again, such as "exited with code 1";
    None while it runs or Docker restarts it. `stays`: it is looked at after its gate too, as it has to stay healthy.
    """

    health: Health
    address: str | None
    port: int
    pid: int
    started: float | None = None
    ended: str | None = None
    stays: bool = False


class _State(Protocol):
    """Docker's own health state: `ok`, or what is wrong."""

    @property
    def ok(self) -> bool: ...
    @property
    def message(self) -> str: ...


@dataclass(frozen=True)
class Inside:
    """What the prober asks of Docker, by container id: run a command (argv, seconds), its health state, its last lines."""

    exec: Callable[[str, tuple[str, ...], float], tuple[int, str]]
    health: Callable[[str], _State]
    logs: Callable[[str, int], tuple[str, ...]]


@dataclass
class _Watched:
    target: Target
    started: float
    process: str | None
    gate: Gate = CLOSED
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Prober:
    """Probes in the background. A gate that is passed or failed stays so for its container id, and costs nothing more."""

    def __init__(self, inside: Inside, on_change: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`on_change` is called, from the prober's thread, after a gate was passed or failed. `clock`: seconds, monotonic."""
        self._inside = inside
        self._on_change = on_change
        self._clock = clock
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="probe")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="prober", daemon=True)
        self._thread.start()

    def watch(self, targets: Mapping[str, Target]) -> None:
        """The full set to look at from now on, by container id. What is not in it is forgotten; what is, goes on."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._apply, dict(targets), done)
        done.wait()

    def gates(self) -> Mapping[str, Gate]:
        """Each watched container's gate as it is now; `after` of a waiting one is the time waited at its last probe."""
        with self._lock:
            return dict(self._gates)

    def close(self) -> None:
        """Stop probing. Commands that run in containers are left to their own time limits."""
        if self._thread.is_alive():
            self.watch({})
            asyncio.run_coroutine_threadsafe(_others_end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _apply(self, targets: dict[str, Target], done: threading.Event) -> None:
        for identity in self._watched.keys() - targets.keys():
            del self._watched[identity]
            task = self._tasks.pop(identity, None)
            if task is not None:
                task.cancel()
        for identity, target in targets.items():
            watched = self._watched.get(identity)
            if watched is None:
                started = self._clock() if target.started is None else target.started
                self._watched[identity] = _Watched(target, started, process_start(target.pid))
                self._tasks[identity] = self._loop.create_task(self._probe(identity))
            elif watched.target != target:
                self._retarget(identity, watched, target)
        with self._lock:
            self._gates = {identity: watched.gate for identity, watched in self._watched.items()}
        done.set()

    def _retarget(self, identity: str, watched: _Watched, target: Target) -> None:
        before, watched.target = watched.target, target
        if target.pid and target.pid != before.pid:
            watched.process = process_start(target.pid)
            if before.pid:
                self._advance(identity, watched, _restarted(watched.gate))
        watched.changed.set()

    async def _probe(self, identity: str) -> None:
        watched = self._watched[identity]
        while _goes_on(watched):
            began = self._clock()
            process = watched.target.pid, watched.process
            result = await self._look(identity, watched)
            if process == (watched.target.pid, watched.process):  # else the answer is of a process that is gone
                self._advance(identity, watched, result)
            if _goes_on(watched):
                await self._pause(watched, began + watched.target.health.interval - self._clock())
        if watched.gate.state == "failed":
            await self._add_log(identity, watched)
        self._publish(identity, watched)
        self._on_change()

    async def _pause(self, watched: _Watched, seconds: float) -> None:
        # Cut short when the container is seen to have ended: nothing is left to wait for.
        watched.changed.clear()
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0 and watched.target.ended is None:
            try:
                await asyncio.wait_for(watched.changed.wait(), left)
            except TimeoutError:
                return
            watched.changed.clear()

    async def _look(self, identity: str, watched: _Watched) -> ProbeResult:
        target = watched.target
        if target.ended is not None:
            return ProbeResult(kind="ended", error=target.ended)
        if target.pid == 0 or _gone(watched):
            return failure("its process does not run")
        try:
            result = await asyncio.wait_for(self._check(identity, target), target.health.timeout)
        except TimeoutError:
            return failure(f"{_what(target)}: no answer within {target.health.timeout:g} s")
        # An answer may have come from another process, if this one ended meanwhile.
        return failure("its process ended during the probe") if _gone(watched) else result

    async def _check(self, identity: str, target: Target) -> ProbeResult:
        health = target.health
        if health.kind == "command":
            return await self._loop.run_in_executor(self._threads, self._command, identity, health)
        if health.kind == "docker":
            return await self._loop.run_in_executor(self._threads, self._docker, identity)
        if not target.address:
            return failure("it has no address")
        port = health.port or target.port
        if health.kind == "http":
            return await probe_checks.http(target.address, port, health.path)
        return await probe_checks.tcp(target.address, port)

    def _command(self, identity: str, health: Health) -> ProbeResult:
        try:
            code, output = self._inside.exec(identity, health.command, health.timeout)
        except ReconcilerError as error:
            return failure(str(error))
        said = f": {output.splitlines()[-1]}" if output else ""
        return SUCCESS if code == 0 else failure(f"command {' '.join(health.command)} ended with code {code}{said}")

    def _docker(self, identity: str) -> ProbeResult:
        try:
            state = self._inside.health(identity)
        except ReconcilerError as error:
            return failure(str(error))
        return SUCCESS if state.ok else failure(state.message)

    async def _add_log(self, identity: str, watched: _Watched) -> None:
        try:
            log = await self._loop.run_in_executor(self._threads, self._inside.logs, identity, _LOG_LINES)
        except ReconcilerError as error:
            log = (f"(its output cannot be read: {error})",)
        watched.gate = watched.gate.model_copy(update={"log": log})

    def _advance(self, identity: str, watched: _Watched, result: ProbeResult) -> None:
        before, target = watched.gate.state, watched.target
        now = max(0.0, self._clock() - watched.started)
        watched.gate = advance(watched.gate, result, now, target.health, stays=target.stays)
        if _goes_on(watched):  # the end is published once its log is there
            self._publish(identity, watched)
            if watched.gate.state != before:
                self._on_change()

    def _publish(self, identity: str, watched: _Watched) -> None:
        with self._lock:
            if self._watched.get(identity) is watched:
                self._gates[identity] = watched.gate


async def _others_end() -> None:
    # A probe that was cancelled closes its connection in further turns of the loop.
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)


def _goes_on(watched: _Watched) -> bool:
    """Whether there is still something to find out."""
    return watched.gate.state == "waiting" or (watched.gate.state == "passed" and watched.target.stays)


def _restarted(gate: Gate) -> ProbeResult:
    """Before its gate a restart is one failure among others; one that was healthy has crashed."""
    if gate.state == "passed":
        return ProbeResult(kind="ended", error="its process ended and was started again")
    return failure("its process ended and was started again during the health gate")


def _gone(watched: _Watched) -> bool:
    return watched.process is not None and process_start(watched.target.pid) != watched.process


def _what(target: Target) -> str:
    health = target.health
    port = health.port or target.port
    kinds = {
        "http": f"GET {health.path} at {target.address}:{port}",
        "tcp": f"tcp {target.address}:{port}",
        "command": f"command {' '.join(health.command)}",
        "docker": "Docker's health state",
    }
    return kinds[health.kind]
