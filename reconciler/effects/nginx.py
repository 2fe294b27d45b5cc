"""nginx: writes configurations and switches to them in a way that is verified, not believed (DESIGN section 4, rule 3).

A HUP only sends a signal: the old workers go on accepting for about 100 ms, and a configuration that passed `nginx -t` can still be
refused, silently. So a reload counts once every worker noted before it is gone or shutting down, new ones exist, and the generation
endpoint answers the new fingerprint over fresh connections.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reconciler.effects.namespace import Workers, established, http_get, workers
from reconciler.errors import ReconcilerError, Stalled, Transient
from reconciler.model.observed import NginxState
from reconciler.model.switched import Switched

FLOOR = (1, 27, 4)  # the first with keepalive_min_timeout
MOUNT = "/etc/reconciler-nginx"
FILE = "nginx.conf"
CANDIDATE = "nginx.conf.candidate"
VERIFY_SECONDS = 5.0
EXEC_SECONDS = 20.0
PROBE_SECONDS = 1.0
FRESH_CONNECTIONS = 5
POLL_SECONDS = 0.01
PARALLEL = 8
LOG_LINES = 2000  # the edge's access log is among them

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_COMPLAINT = re.compile(r"\[(?:emerg|alert|crit|error)\] .*")
_REFUSAL = re.compile(r"\[emerg\] (?!.*still could not bind).*")  # in the log of a running nginx the other levels tell of requests
_PROCESS = re.compile(r"(?<=\] )\d+#\d+: (?:\*\d+ )?")
_VERSION = re.compile(r"nginx version: \S+?/(\d+)\.(\d+)\.(\d+)")


class Containers(Protocol):
    """What is needed of Docker. Each raises Transient when Docker does not answer or there is no such running container."""

    def exec(self, name: str, argv: tuple[str, ...], timeout: float, /) -> tuple[int, str]:
        """Run inside; returns the exit code and both outputs together."""

    def logs(self, name: str, tail: int, /) -> tuple[str, ...]:
        """The last lines of both outputs."""


class Target(Protocol):
    """An nginx and the text it is to have. `port`: its generation endpoint, on 127.0.0.1 in its namespace."""

    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def port(self) -> int: ...


@dataclass
class _Switch:
    """A target whose file is in place; `noted` are the workers from before the HUP."""

    target: Target
    pid: int
    previous: bytes | None
    noted: frozenset[int]
    started: float = 0.0
    outcome: Switched | None = None
    waiting_for: str = "nothing was seen yet"


@dataclass(frozen=True)
class _Refused:
    """Why a target's file was not put in place. `tried`: this nginx was asked; otherwise it is the server that could not."""

    error: str
    tried: bool = True


class Nginx:
    """The nginxes of this server. `root`: on the host, a directory per nginx below it, mounted at `mount` in its container.

    `watch` is called with "before" and "after" and the parts of a switch: crashes for tests.
    """

    def __init__(
        self, root: Path, containers: Containers, mount: str = MOUNT, watch: Callable[[str, str], None] = lambda when, part: None
    ) -> None:
        self._root = root
        self._containers = containers
        self._mount = mount
        self._watch = watch
        self._refused: dict[str, tuple[str, str, int]] = {}

    def write(self, name: str, text: str) -> None:
        """Put a configuration in place for an nginx that is not running yet."""
        self._refused.pop(name, None)
        self._put(name, FILE, text.encode())

    def forget(self, name: str) -> None:
        """Forget the configuration of an nginx whose container is gone."""
        self._refused.pop(name, None)
        with suppress(FileNotFoundError):
            shutil.rmtree(self._directory(name))

    def read(self, name: str) -> str | None:
        """The file that an nginx loads when it is started; None when there is none that is text."""
        with suppress(OSError, UnicodeDecodeError):
            return (self._directory(name) / FILE).read_text()
        return None

    def state(self, name: str, pid: int, port: int) -> NginxState:
        """What is loaded, by asking nginx itself; and what it refused last, by this process's memory."""
        try:
            old = len(workers(pid).shutting_down)
        except Transient:
            old = 0
        refused, error, tries = self._refused.get(name, (None, None, 0))
        return NginxState(name=name, loaded=_loaded(pid, port), old_workers=old, refused=refused, error=error, tries=tries)

    def complaint(self, name: str) -> str | None:
        """nginx's last `[emerg]` line in the container's log, running or not; None when there is none."""
        with suppress(ReconcilerError):
            return _last(_REFUSAL, "\n".join(self._containers.logs(name, LOG_LINES)))
        return None

    def version(self, name: str) -> tuple[int, int, int]:
        """The version of a running nginx. Raises Stalled when it is too old for a switch without losses."""
        code, output = self._containers.exec(name, ("nginx", "-v"), EXEC_SECONDS)
        match = _VERSION.search(output)
        if code != 0 or match is None:
            raise Stalled(f"{name}: `nginx -v` answered {output.strip()!r}; expected nginx version: nginx/x.y.z", reason="NotNginx")
        found = (int(match[1]), int(match[2]), int(match[3]))
        if found < FLOOR:
            raise Stalled(
                f"{name} runs nginx {'.'.join(map(str, found))}; a reload loses requests before {'.'.join(map(str, FLOOR))}, "
                "which has keepalive_min_timeout: configure a newer nginx image",
                reason="NginxTooOld",
            )
        return found

    def connections(self, pid: int, port: int) -> int:
        """See `namespace.established`."""
        return established(pid, port)

    def switch(self, targets: Sequence[tuple[Target, int]], timeout: float = VERIFY_SECONDS) -> Sequence[Switched]:
        """Bring nginxes (with the process ids of their masters on the host) to their texts, all in one go, and verify it.

        `timeout`: seconds from the last HUP. One that is refused, by `nginx -t` or by the running master, keeps or gets back its
        old file and holds back no other. Nothing is raised for a single one: its state has nginx's own line. In the order given.
        """
        with ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="nginx") as pool:
            placed = list(pool.map(lambda pair: self._place(*pair), targets))
        switches = [item for item in placed if isinstance(item, _Switch)]
        for switch in switches:
            self._watch("before", f"hang up {switch.target.name}")
            _hang_up(switch)
            self._watch("after", f"hang up {switch.target.name}")
        deadline = time.monotonic() + timeout
        while waiting := [switch for switch in switches if switch.outcome is None]:
            for switch in waiting:
                _verify(switch)
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_SECONDS)
        outcomes = []
        for (target, pid), item in zip(targets, placed, strict=True):
            done = item.outcome if isinstance(item, _Switch) else None
            if done is not None:
                self._refused.pop(target.name, None)
            else:
                found = _Refused(self._give_up(item, timeout)) if isinstance(item, _Switch) else item
                tries = self._refused[target.name][2] if target.name in self._refused else 0
                self._refused[target.name] = (target.fingerprint, found.error, tries + found.tried)
                done = Switched(target.name, False, None, self.state(target.name, pid, target.port))
            outcomes.append(done)
        return outcomes

    def _place(self, target: Target, pid: int) -> _Switch | _Refused:
        """Test the candidate where it will run, and put it in place. Returns why not when it is refused."""
        try:
            self._put(target.name, CANDIDATE, target.text.encode())
            argv = ("nginx", "-t", "-c", f"{self._mount}/{CANDIDATE}")
            code, output = self._containers.exec(target.name, argv, EXEC_SECONDS)
            if code != 0:
                (self._directory(target.name) / CANDIDATE).unlink(missing_ok=True)
                words = f"{target.name}: `nginx -t` ended with code {code}: {output.strip()[-300:]}"
                return _Refused(_last(_COMPLAINT, output) or words)
            previous = self._read(target.name)
            noted = workers(pid)
            self._watch("before", f"rename {target.name}")
            self._rename(target.name, CANDIDATE)
            self._watch("after", f"rename {target.name}")
        except (ReconcilerError, OSError) as error:
            words = f"{target.name} could not be given its configuration: {error}"
            return _Refused(words, tried=not isinstance(error, OSError))  # a full disk is no fault of this nginx
        return _Switch(target, pid, previous, noted.current | noted.shutting_down)

    def _give_up(self, switch: _Switch, timeout: float) -> str:
        """Not verified in time; returns why. What nginx did not load is not left for its next start to load."""
        target = switch.target
        if _loaded(switch.pid, target.port) == target.fingerprint:
            return f"{target.name} loaded it, but after {timeout:g} s {switch.waiting_for}"
        if switch.previous is not None:
            self._put(target.name, FILE, switch.previous)
        return self.complaint(target.name) or f"{target.name} did not load it within {timeout:g} s: {switch.waiting_for}"

    def _directory(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Stalled(f"{name!r} is not a container's name; its nginx configuration cannot be written", reason="UnsafeValue")
        return self._root / name

    def _read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return (self._directory(name) / FILE).read_bytes()
        return None

    def _put(self, name: str, file: str, content: bytes) -> None:
        """Durably: a power failure leaves the old file or the new one, whole (FAULTS 4)."""
        directory = self._directory(name)
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / f".{file}.new"
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(directory / file)
        _fsync_directory(directory)

    def _rename(self, name: str, file: str) -> None:
        directory = self._directory(name)
        (directory / file).replace(directory / FILE)
        _fsync_directory(directory)


def _hang_up(switch: _Switch) -> None:
    switch.started = time.monotonic()
    try:
        # Not through Docker: it takes a signal to a container without a stop signal for the wish to stop it for good.
        os.kill(switch.pid, signal.SIGHUP)
    except OSError as error:
        switch.waiting_for = f"it could not be told to reload: {error}"


def _verify(switch: _Switch) -> None:
    """Look once; sets the outcome when everything holds."""
    target = switch.target
    try:
        now = workers(switch.pid)
    except Transient as error:
        switch.waiting_for = str(error)
        return
    missing = _missing(switch, now)
    if missing is not None:
        switch.waiting_for = missing
        return
    elapsed = round((time.monotonic() - switch.started) * 1000, 1)
    state = NginxState(name=target.name, loaded=target.fingerprint, old_workers=len(now.shutting_down))
    switch.outcome = Switched(target.name, True, elapsed, state)


def _missing(switch: _Switch, now: Workers) -> str | None:
    """What the switch still waits for; None when it is verified."""
    target = switch.target
    if accepting := switch.noted & now.current:
        return f"{len(accepting)} of its old workers still accept connections"
    if not now.current - switch.noted:
        return "no new worker is there"
    for _ in range(FRESH_CONNECTIONS):
        answer = _loaded(switch.pid, target.port)
        if answer != target.fingerprint:
            return f"its generation endpoint answers {answer!r}; expected {target.fingerprint!r}"
    return None


def _loaded(pid: int, port: int) -> str | None:
    """The fingerprint that nginx answers over a fresh connection; None when it does not answer."""
    try:
        status, body = http_get(pid, port, "/", PROBE_SECONDS)
    except (OSError, Transient):
        return None
    return body.strip() if status == 200 else None


def _last(pattern: re.Pattern[str], output: str) -> str | None:
    """nginx's own last line of this kind, without its time stamp and its process: the same refusal has the same words each time."""
    found = pattern.findall(output)
    return _PROCESS.sub("", found[-1].strip(), count=1)[:400] if found else None


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
