"""What a person can change in a container after it was created, and the words for each such change (FAULTS 18).

Labels cannot be changed later, so what was asked for is kept in a label of this adapter's own, `reconciler.expected`, as JSON, and
compared with what Docker's inspect answers. (`reconciler.shape` is the planner's: it tells one plan from another.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from reconciler.model.base import Model
from reconciler.model.container import PREFIX, ContainerPlan

LABEL_EXPECTED: Final = PREFIX + "expected"
_CPUS: Final = os.cpu_count() or 1
ALL_NANO_CPUS: Final = _CPUS * 1_000_000_000
NO_LIMIT: Final = 1 << 60  # bytes
ALL_CPUS: Final = f"0-{_CPUS - 1}" if _CPUS > 1 else "0"
# Fields of HostConfig that `docker update` sets and that are never asked for here, with the values that limit nothing.
# Docker has no way back to "not set", so `docker_restore` writes the last of these.
UNLIMITED: Final[tuple[tuple[str, str, tuple[int | str | None, ...]], ...]] = (
    ("MemoryReservation", "memory reservation", (None, 0, -1)),
    ("CpuShares", "CPU shares", (None, 0, 1024)),
    ("CpuPeriod", "CPU period", (None, 0, 100_000)),
    ("CpuQuota", "CPU quota", (None, 0, -1)),
    ("CpusetCpus", "CPU set", (None, "", ALL_CPUS)),
)


class Support(Model):
    """Which limits the daemon can enforce here; it drops the others with a warning, which is not drift."""

    memory: bool = True
    cpus: bool = True
    pids: bool = True

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Support:
        """From Docker's `GET /info`."""
        cpus = info.get("CpuCfsQuota", True) and info.get("CpuCfsPeriod", True)
        return cls(memory=bool(info.get("MemoryLimit", True)), cpus=bool(cpus), pids=bool(info.get("PidsLimit", True)))


class Shape(Model):
    """The changeable parts as they were asked for. Sizes are bytes, CPUs are billionths; 0 and "" mean not limited, not fixed."""

    name: str
    memory: int = 0
    cpus: int = 0
    pids: int = 0
    restart: str = "no"
    networks: Mapping[str, str] = {}  # network -> address, "" when any will do
    aliases: tuple[str, ...] = ()
    may_join: bool = False  # the edge is joined to project networks later

    def to_label(self) -> str:
        """As the value of `reconciler.expected`."""
        return self.model_dump_json(exclude_defaults=True)


def expected_shape(plan: ContainerPlan, support: Support = Support()) -> Shape:
    """The shape that a container made from `plan` has while nobody changes it."""
    networks: dict[str, str] = {}
    if plan.host_network:
        networks = {"host": ""}
    elif plan.namespace_of is None:
        networks = {plan.network or "bridge": plan.address or ""}
    return Shape(
        name=plan.name,
        memory=(plan.resources.memory or 0) if support.memory else 0,
        cpus=_asked_cpus(plan) if support.cpus else 0,
        pids=(plan.resources.pids or 0) if support.pids else 0,
        restart=plan.restart,
        networks=networks,
        aliases=tuple(sorted(plan.aliases)) if plan.network else (),
        may_join=plan.labels.role == "edge",
    )


def nano_cpus(cpus: float | None) -> int:
    """CPUs in Docker's unit, billionths; 0 for no limit."""
    return round((cpus or 0) * 1_000_000_000)


def effective_memory(host: Mapping[str, Any]) -> int:
    """The memory limit in Docker's HostConfig, in bytes; 0 when there is none, in whatever way that was written."""
    memory = int(host.get("Memory") or 0)
    return memory if 0 < memory < NO_LIMIT else 0


def effective_cpus(host: Mapping[str, Any]) -> int:
    """The CPU limit in Docker's HostConfig, in billionths; 0 when it is no limit on this machine."""
    cpus = int(host.get("NanoCpus") or 0)
    return cpus if cpus < ALL_NANO_CPUS else 0


def shape_drift(label: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between the shape in a container's label and Docker's inspect of it, in words. Empty without a label."""
    if not label:
        return ()
    try:
        shape = Shape.model_validate_json(label)
    except ValidationError:
        return ("the label reconciler.expected is unreadable",)
    host = found.get("HostConfig") or {}
    name = str(found.get("Name", "")).lstrip("/")
    changes: list[str] = [] if name == shape.name else [f"renamed from {shape.name} to {name}"]
    changes += _limits(shape, host)
    restart = (host.get("RestartPolicy") or {}).get("Name") or "no"
    if restart != shape.restart:
        changes.append(f"restart policy {shape.restart} -> {restart}")
    changes += _networks(shape, joined(found))
    return tuple(changes)


def joined(found: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The networks that a container is on, by name, of Docker's inspect of it; those it is to be on while it does not run.

    Docker also lists those that a running one could not join, such as for an address that was taken: these have no endpoint.
    """
    listed = (found.get("NetworkSettings") or {}).get("Networks") or {}
    state = found.get("State") or {}
    up = bool(state.get("Running")) and not state.get("Restarting") and int(state.get("Pid") or 0) > 0
    return {name: endpoint or {} for name, endpoint in listed.items() if not up or (endpoint or {}).get("EndpointID")}


def _asked_cpus(plan: ContainerPlan) -> int:
    cpus = nano_cpus(plan.resources.cpus)
    return cpus if cpus < ALL_NANO_CPUS else 0


def _limits(shape: Shape, host: Mapping[str, Any]) -> list[str]:
    memory, cpus = effective_memory(host), effective_cpus(host)
    pairs: list[tuple[str, float, float]] = [
        ("memory limit", shape.memory, memory),
        ("CPU limit", shape.cpus / 1e9, cpus / 1e9),
        ("process limit", shape.pids, max(host.get("PidsLimit") or 0, 0)),
    ]
    swap = host.get("MemorySwap") or 0
    if memory and memory == shape.memory and swap not in (-1, 2 * memory):
        pairs.append(("memory and swap limit", 2 * shape.memory, swap))
    changes = [f"{words} {old:.12g} -> {new:.12g}" for words, old, new in pairs if old != new]
    return changes + [f"{words} not set -> {host[field]}" for field, words, free in UNLIMITED if host.get(field) not in free]


def _networks(shape: Shape, found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    changes: list[str] = []
    for network, address in shape.networks.items():
        if network not in found:
            changes.append(f"disconnected from {network}")
            continue
        endpoint = found[network]
        actual = endpoint_address(endpoint)
        if address and actual != address:
            changes.append(f"address on {network} {address} -> {actual or 'none fixed'}")
        lost = [alias for alias in shape.aliases if alias not in (endpoint.get("Aliases") or ())]
        if lost:
            changes.append(f"aliases on {network} lost: {', '.join(lost)}")
    if not shape.may_join:
        changes += [f"connected to {network}" for network in sorted(found) if network not in shape.networks]
    return changes


def endpoint_address(endpoint: Mapping[str, Any]) -> str:
    """The IPv4 address of a container on a network: the one that was fixed (known while it is stopped), else the one it got."""
    fixed = (endpoint.get("IPAMConfig") or {}).get("IPv4Address")
    return str(fixed or endpoint.get("IPAddress") or "")
