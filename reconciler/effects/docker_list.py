"""Which containers there are: one list call per pass, an inspect only for those that are new, changed or named by an event."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import docker.errors

from reconciler.effects.docker_api import DockerApi, short
from reconciler.effects.docker_shape import LABEL_EXPECTED, endpoint_address, joined, shape_drift
from reconciler.model.container import Labels
from reconciler.model.observed import Container

_EXIT_CODE = re.compile(r"^(?:Exited|Restarting) \((\d+)\)")


@dataclass(frozen=True)
class _Known:
    """What was inspected, and by what it is known to be still so."""

    fingerprint: Mapping[str, Any]
    container: Container
    process: str | None  # start time of its first process in /proc, None when it does not run or is not visible


@dataclass
class Listing:
    """The containers of one server on one daemon. Safe to use from several threads."""

    api: DockerApi
    _known: dict[str, _Known] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def containers(self) -> tuple[tuple[Container, ...], frozenset[str]]:
        """Ours by label, sorted by name, and the names that foreign containers use. Raises Transient."""
        with self.api.call("list", "list containers") as client:
            entries: list[dict[str, Any]] = client.containers(all=True)
        ours = {str(entry["Id"]): labels for entry in entries if (labels := self._ours(entry.get("Labels") or {})) is not None}
        foreign = frozenset(name for entry in entries if str(entry["Id"]) not in ours for name in _names(entry))
        found = [self._current(entry, ours[str(entry["Id"])]) for entry in entries if str(entry["Id"]) in ours]
        with self._lock:
            for identity in self._known.keys() - ours.keys():
                del self._known[identity]
        containers = {container.id: container for container in found if container is not None}
        resolved = [_in_namespace(container, containers) for container in containers.values()]
        return tuple(sorted(resolved, key=lambda container: (container.name, container.id))), foreign

    def invalidate(self, identity: str | None = None) -> None:
        """Inspect this container again in the next pass; all of them when no id is given (events may have been lost)."""
        with self._lock:
            if identity is None:
                self._known.clear()
            else:
                self._known.pop(identity, None)

    def is_ours(self, identity: str) -> bool:
        """Whether the container was seen with our labels. Labels and ids never change, so that a yes holds for ever."""
        with self._lock:
            return identity in self._known

    def own_labels(self, labels: dict[str, str]) -> Labels | None:
        """The labels parsed, if they are of this server."""
        return self._ours(labels)

    def _ours(self, labels: dict[str, str]) -> Labels | None:
        try:
            parsed = Labels.from_docker(labels)
        except ValueError:
            return None  # somebody else's use of our prefix: never touched
        return parsed if parsed is not None and parsed.server == self.api.server else None

    def _current(self, entry: Mapping[str, Any], labels: Labels) -> Container | None:
        identity = str(entry["Id"])
        fingerprint = _fingerprint(entry)
        with self._lock:
            known = self._known.get(identity)
        if known is not None and known.fingerprint == fingerprint and known.process == process_start(known.container.pid):
            return known.container
        with self.api.call("inspect", f"inspect container {short(identity)}") as client:
            try:
                found: Mapping[str, Any] = client.inspect_container(identity)
            except docker.errors.NotFound:
                return None  # removed since it was listed
        container = to_container(found, labels)
        with self._lock:
            self._known[identity] = _Known(fingerprint, container, process_start(container.pid))
        return container


def to_container(found: Mapping[str, Any], labels: Labels) -> Container:
    """Docker's inspect answer as a Container."""
    state = found["State"]
    mode = str((found.get("HostConfig") or {}).get("NetworkMode", ""))
    networks = joined(found)
    own = labels.service.network if labels.service is not None else next(iter(networks), "")
    running = bool(state.get("Running"))
    return Container(
        id=found["Id"],
        name=str(found["Name"]).lstrip("/"),
        labels=labels,
        status=state["Status"],
        created=str(found.get("Created") or ""),
        image_id=found.get("Image", ""),
        address=(endpoint_address(networks.get(own, {})) or None) if running else None,
        pid=int(state.get("Pid") or 0) if running else 0,
        exit_code=None if running or state["Status"] == "created" else state.get("ExitCode"),
        restarts=int(found.get("RestartCount") or 0),
        namespace_of=mode.partition(":")[2] if mode.startswith("container:") else None,
        networks=tuple(sorted(networks)),
        drift=shape_drift((found.get("Config") or {}).get("Labels", {}).get(LABEL_EXPECTED, ""), found),
    )


def process_start(pid: int) -> str | None:
    """The start time of a process as the kernel counts it, by which a restart shows; None when there is no such process here."""
    if pid <= 0:
        return None
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _names(entry: Mapping[str, Any]) -> list[str]:
    return [str(name).lstrip("/") for name in entry.get("Names") or ()]


def _fingerprint(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    # `Status` counts time ("Up 3 minutes") and the order of `Ports` and `Mounts` varies: of these only the exit code is looked at.
    networks = (entry.get("NetworkSettings") or {}).get("Networks") or {}
    exited = _EXIT_CODE.match(str(entry.get("Status", "")))
    return {
        "names": sorted(_names(entry)),
        "state": entry.get("State"),
        "exit": exited.group(1) if exited else None,
        "networks": {name: ((end or {}).get("EndpointID"), (end or {}).get("IPAddress")) for name, end in networks.items()},
    }


def _in_namespace(container: Container, containers: Mapping[str, Container]) -> Container:
    """A container in another's network namespace has that one's address, unless that one was restarted and left it behind."""
    owner = containers.get(container.namespace_of or "")
    if owner is None or not (container.running and owner.running):
        return container
    update: dict[str, object] = {"address": owner.address}
    if _differs(_namespace(container.pid), _namespace(owner.pid)):
        update["drift"] = (*container.drift, f"left in an old network namespace: {owner.name} was restarted")
    return container.model_copy(update=update)


def _differs(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def _namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None
