"""What `reconcile doctor` looks at: Docker's own description of itself, and the kernel's files. Decides nothing."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker.errors

from reconciler.effects import process
from reconciler.effects.docker_api import DockerApi, one_line
from reconciler.effects.git import GitRepository
from reconciler.effects.git_clone import Clone
from reconciler.effects.git_command import GitCommand
from reconciler.effects.git_settings import GitSettings
from reconciler.errors import Transient

CAPABILITIES = {"CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
_RUN_SECONDS = 30


@dataclass(frozen=True)
class Engine:
    """A Docker Engine. `limits` are those of memory, cpus and pids that the kernel lets it set."""

    version: str
    live_restore: bool
    limits: Mapping[str, bool]
    root: str


@dataclass(frozen=True)
class Remotes:
    """Branches that the config repository shows, and why a status branch could not be written (None: it could)."""

    branches: tuple[str, ...]
    write_error: str | None


def engine(url: str) -> Engine:
    """Ask the daemon. Raises Transient."""
    with DockerApi(url, "").call("info", "describe itself") as client:
        found: Mapping[str, Any] = client.info()
    return Engine(
        version=str(found.get("ServerVersion", "")),
        live_restore=bool(found.get("LiveRestoreEnabled")),
        limits={
            "memory": bool(found.get("MemoryLimit")),
            "cpus": bool(found.get("CpuCfsQuota")),
            "pids": bool(found.get("PidsLimit")),
        },
        root=str(found.get("DockerRootDir", "")),
    )


def has_image(url: str, image: str) -> bool:
    """Whether the image is on the server. Raises Transient."""
    with DockerApi(url, "").call("image", f"inspect image {image}") as client:
        try:
            client.inspect_image(image)  # type: ignore[no-untyped-call]
        except docker.errors.NotFound:
            return False
    return True


def offered(url: str, image: str) -> str | None:
    """None when a registry offers the image to this server, else why not."""
    try:
        with DockerApi(url, "").call("distribution", f"find {image}", seconds=15) as client:
            client.inspect_distribution(image)  # type: ignore[no-untyped-call]
    except Transient as error:
        return one_line(str(error))
    return None


def nginx_version(url: str, image: str) -> str:
    """What `nginx -v` says in a container that is gone afterwards. Raises Transient."""
    with DockerApi(url, "").call("create", f"run {image}", seconds=_RUN_SECONDS) as client:
        name = f"reconcile-doctor-{secrets.token_hex(4)}"
        made = client.create_container(
            image, ["-v"], entrypoint=["nginx"], name=name, host_config=client.create_host_config(network_mode="none")
        )
        try:
            client.start(made["Id"])
            client.wait(made["Id"], timeout=_RUN_SECONDS)
            return one_line(client.logs(made["Id"]).decode(errors="replace"))
        finally:
            with suppress(docker.errors.APIError):
                client.remove_container(made["Id"], force=True)


def git_version() -> tuple[int, ...]:
    """The version of git. Raises Failed when there is none."""
    words = process.run(["git", "--version"], timeout=10).require().stdout.decode(errors="replace").split()
    return tuple(int(part) for part in (words[2] if len(words) > 2 else "0").split(".")[:3] if part.isdecimal())


def remotes(settings: GitSettings, directory: Path) -> Remotes:
    """List the branches, and rehearse a push of a new status branch, in a scratch `directory`. Raises Transient."""
    path = directory / "doctor.git"
    git = GitRepository(path, settings)
    git.open()
    command = GitCommand(settings)
    remote = settings.config_remote()
    done = command.run(Clone(path).path, "ls-remote", "--heads", "--", remote.name, remote=remote)
    if done.code != 0:
        raise Transient(f"cannot list the branches of {remote.url}: {_last(done.stderr_tail)}")
    lines = done.stdout.decode(errors="replace").splitlines()
    branches = tuple(line.partition("\t")[2].removeprefix("refs/heads/") for line in lines)
    if not settings.status:
        return Remotes(branches, None)
    target = settings.status_remote()
    sha = git.commit({"check": b"rehearsal\n"}, None, "Rehearsal, not pushed", author="doctor", when=0)
    branch = f"refs/heads/{settings.status_branch_prefix}reconcile-doctor"
    pushed = command.run(path, "push", "--dry-run", "--porcelain", "--", target.name, f"{sha}:{branch}", remote=target)
    return Remotes(branches, None if pushed.code == 0 else _last(pushed.stderr_tail))


def capabilities() -> Mapping[str, bool]:
    """Which of the needed capabilities this process has."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return dict.fromkeys(CAPABILITIES, False)
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return {name: bool(effective >> bit & 1) for name, bit in CAPABILITIES.items()}


def local_ports() -> tuple[int, int] | None:
    """The range from which the kernel takes ports for outgoing connections."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return None
    return int(low), int(high)


def routes() -> tuple[ipaddress.IPv4Network, ...]:
    """The address ranges that this server has routes to, without the default route."""
    found = []
    with suppress(OSError):
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            fields = line.split()
            destination, mask = (socket.inet_ntoa(struct.pack("=I", int(fields[index], 16))) for index in (1, 7))
            if mask != "0.0.0.0":
                found.append(ipaddress.IPv4Network(f"{destination}/{mask}", strict=False))
    return tuple(found)


def exposed_secrets(local_dir: Path) -> tuple[Path, ...]:
    """Secrets that any user of the server can read."""
    found = []
    for directory in sorted(local_dir.glob("*/*/secrets")):
        with suppress(OSError):
            if not directory.stat().st_mode & 0o001:
                continue
            found += [file for file in sorted(directory.iterdir()) if file.stat().st_mode & 0o004]
    return tuple(found)


def lock_holder(state_dir: Path) -> str | None:
    """Who has the state directory, as its lock file says, if that process is there."""
    try:
        text = (state_dir / "lock").read_text(errors="replace").strip()
    except OSError:
        return None
    words = text.split()
    pid = words[1] if len(words) > 1 and words[1].isdecimal() else ""
    held = pid and any(fields[4:5] == [pid] for fields in _locks())
    return text if held else None


def free_bytes(path: Path) -> int | None:
    """Free space where `path` is or would be."""
    for place in (path, *path.parents):
        with suppress(OSError):
            status = os.statvfs(place)
            return status.f_bavail * status.f_frsize
    return None


def writable(path: Path) -> bool:
    """Whether this process may write in the directory, or make it."""
    place = next((place for place in (path, *path.parents) if place.exists()), path)
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def _locks() -> list[list[str]]:
    try:
        return [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return []


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "git gave no reason"
