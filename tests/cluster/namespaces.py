"""Network namespaces joined by one bridge, which lives in a namespace of its own, so that the machine's own network stays as it is.

Everything is named `recb<tag>...` and its directory says whose it is, so that a killed run's leftovers are told from another run's.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "recb"
NAME = re.compile(PREFIX + "[0-9a-f]{4}")
OWNER = "owner"
BEING_MADE = 60.0  # seconds for which a directory may have no owner yet
NETNS = Path("/var/run/netns")
CLONE_NEWNET = 0x40000000
SUBNET = "10.214.0"
MASK = 24


def run(*command: str, check: bool = True, timeout: float = 60.0) -> str:
    """A command's output. Raises AssertionError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Namespace:
    """One machine's network: `name` in /var/run/netns, and its address on the bridge."""

    name: str
    address: str

    def enter(self, *command: str) -> tuple[str, ...]:
        """The command, begun inside. Not `ip netns exec`, which hides the control groups from a Docker daemon."""
        return ("nsenter", f"--net={NETNS / self.name}", "--", *command)

    def run(self, *command: str, check: bool = True) -> str:
        """A command's output."""
        return run(*self.enter(*command), check=check)

    def listen(self, port: int) -> socket.socket:
        """A listening socket inside, which this process serves: a socket belongs to the namespace where it was made."""
        return self._inside(lambda: socket.create_server((self.address, port), backlog=128))

    def connect(self, port: int, timeout: float) -> socket.socket:
        """A connection to this namespace's own address that begins inside it."""
        return self._inside(lambda: socket.create_connection((self.address, port), timeout=timeout))

    def _inside(self, make: Callable[[], socket.socket]) -> socket.socket:
        made: list[socket.socket | OSError] = []

        def enter() -> None:
            try:
                with (NETNS / self.name).open() as handle:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(make())
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=enter)  # setns concerns the calling thread alone
        thread.start()
        thread.join()
        (found,) = made
        if isinstance(found, OSError):
            raise found
        return found

    def cut(self, other: str) -> None:
        """From now on nothing comes from or goes to an address, forwarded or not; nobody is told."""
        self.run("iptables", "-w", "-t", "raw", "-I", "PREROUTING", "-s", other, "-j", "DROP")
        self.run("iptables", "-w", "-t", "mangle", "-I", "POSTROUTING", "-d", other, "-j", "DROP")

    def heal(self) -> None:
        """Undo every `cut`, and the link is up."""
        self.run("iptables", "-w", "-t", "raw", "-F", "PREROUTING")
        self.run("iptables", "-w", "-t", "mangle", "-F", "POSTROUTING")
        self.run("ip", "link", "set", "eth0", "up")

    def unplug(self) -> None:
        """As a machine without power: nothing answers."""
        self.run("ip", "link", "set", "eth0", "down")

    def forget(self) -> None:
        """As a machine that boots: no bridges, and no links of containers.

        Nothing of a container is left here but its link, and that only for as long as the kernel keeps a connection of it that
        nobody answers; on this machine the kernel outlives the server, and would answer for an address that is in use again.
        """
        for line in self.run("ip", "-oneline", "link", "show").splitlines():
            name = line.split(": ")[1].partition("@")[0]
            if name not in ("lo", "eth0"):
                self.run("ip", "link", "delete", name, check=False)


@dataclass
class Ground:
    """A directory and namespaces of one run."""

    directory: Path
    made: list[Namespace] = field(default_factory=list)

    @classmethod
    def lay(cls, name: str | None = None) -> Ground:
        """A directory that names its owner, and the bridge. `name`: of one that outlives its process and that `remove` ends."""
        if name is None:
            sweep()
        directory = place(name or f"{PREFIX}{uuid.uuid4().hex[:4]}")
        directory.mkdir()
        (directory / OWNER).write_text(f"{os.getpid()} {_started(os.getpid())}")
        ground = cls(directory)
        run("ip", "netns", "add", ground._switch)
        switch = Namespace(ground._switch, "")
        switch.run("ip", "link", "set", "lo", "up")
        switch.run("ip", "link", "add", "br0", "type", "bridge")
        switch.run("ip", "link", "set", "br0", "up")
        return ground

    def add(self, name: str, number: int) -> Namespace:
        """A namespace with one interface on the bridge, at SUBNET.number."""
        namespace = Namespace(f"{self.directory.name}-{name}", f"{SUBNET}.{number}")
        run("ip", "netns", "add", namespace.name)
        self.made.append(namespace)
        namespace.run("ip", "link", "set", "lo", "up")
        namespace.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", f"port{number}", "netns", self._switch)
        Namespace(self._switch, "").run("ip", "link", "set", f"port{number}", "master", "br0", "up")
        namespace.run("ip", "addr", "add", f"{namespace.address}/{MASK}", "dev", "eth0")
        namespace.run("ip", "link", "set", "eth0", "up")
        return namespace

    def clear(self) -> None:
        """Remove everything. Processes inside have to be ended first."""
        remove(self.directory)

    @property
    def _switch(self) -> str:
        return f"{self.directory.name}-switch"


def place(name: str) -> Path:
    """The directory of a ground."""
    return Path(tempfile.gettempdir()) / name


def obstacle() -> str | None:
    """Why no ground can be laid on this machine, and what to do; None when it can."""
    programs = ("dockerd", "containerd", "ip", "nsenter", "iptables", "git")
    missing = [program for program in programs if shutil.which(program) is None]
    if os.geteuid() == 0 and not missing:
        return None
    return f"Docker daemons are started in network namespaces: run as root; not found: {', '.join(missing) or 'nothing'}"


def sweep() -> tuple[str, ...]:
    """Remove what killed runs left, known by its name and by an owner who is no longer there. Returns the names.

    Also namespaces whose directory is gone: it is made before them and removed after them.
    """
    directories = [path.name for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}????")]
    namespaces = [path.name.partition("-")[0] for path in NETNS.glob(f"{PREFIX}????-*")] if NETNS.exists() else []
    left = [name for name in sorted({*directories, *namespaces}) if NAME.fullmatch(name) and _abandoned(place(name))]
    for name in left:
        remove(place(name))
    return tuple(left)


def end(pids: Sequence[int], number: int = signal.SIGKILL, seconds: float = 20.0) -> None:
    """Signal processes and wait until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        threading.Event().wait(0.02)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """A process's children and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += [int(child), *descendants(int(child))]
        except OSError:
            continue
    return found


def processes_of(directory: Path) -> list[int]:
    """Processes that were started with a path below `directory`: the Docker daemon, its containerd, its shims and what they run."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(directory).encode() + b"/" in word for word in command):
            found += [int(entry.name), *descendants(int(entry.name))]
    return sorted(set(found))


def processes_in(names: Sequence[str]) -> list[int]:
    """Processes in these network namespaces, whatever they are called."""
    wanted = {(NETNS / name).stat().st_ino for name in names}
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns/net").stat().st_ino in wanted:
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def unmount(directory: Path) -> None:
    """Unmount everything below `directory`, the deepest first."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), key=len, reverse=True):
        run("umount", "--lazy", mount, check=False)


def remove(directory: Path) -> None:
    """End every process of a ground, and take away its namespaces, mounts and files."""
    names = [path.name for path in NETNS.glob(f"{directory.name}-*")] if NETNS.exists() else []
    end([*processes_of(directory), *processes_in(names)])
    unmount(directory)
    for name in names:
        run("ip", "netns", "delete", name, check=False)
    shutil.rmtree(directory, ignore_errors=True)


def _abandoned(directory: Path) -> bool:
    """Whether the run that made a directory is over; also when it was killed before it could say whose the directory is."""
    try:
        pid, _, started = (directory / OWNER).read_text().partition(" ")
        return not alive(int(pid)) or started not in ("", _started(int(pid)))
    except FileNotFoundError:
        return not directory.exists() or time.time() - directory.stat().st_mtime > BEING_MADE
    except (OSError, ValueError):
        return False


def _started(pid: int) -> str:
    """When a process was started, in ticks since the boot (proc_pid_stat(5), field 22): pids are used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
