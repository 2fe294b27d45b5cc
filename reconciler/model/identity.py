"""Names of services, instances and networks (DESIGN section 3). Names are for people; what runs is told by labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Slot = Literal["primary", "secondary"]
SLOTS: tuple[Slot, Slot] = ("primary", "secondary")


def other_slot(slot: Slot) -> Slot:
    """The slot that a toggle goes to when `slot` is live."""
    return "secondary" if slot == "primary" else "primary"


@dataclass(frozen=True, order=True)
class ServiceKey:
    """`project/env/service`, the identity of a service in the whole cluster."""

    project: str
    env: str
    service: str

    @classmethod
    def parse(cls, text: str) -> ServiceKey:
        """Read `project/env/service`. Raises ValueError on anything else."""
        return _parsed(text)

    def __str__(self) -> str:
        return f"{self.project}/{self.env}/{self.service}"

    @property
    def network(self) -> str:
        """The Docker network of the project and environment."""
        return network_name(self.project, self.env)

    def instance(self, slot: Slot, replica: int = 1) -> InstanceKey:
        """One instance of this service on a server."""
        return InstanceKey(self, replica, slot)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> ServiceKey:
    """Every pass reads the same few keys, each of them many times."""
    parts = text.split("/")
    if len(parts) != 3 or not all(parts):
        raise ValueError(f"service key is {text!r}; expected project/env/service")
    return ServiceKey(*parts)


@dataclass(frozen=True, order=True)
class InstanceKey:
    """One slot of one replica of a service on one server. Replicas count from 1."""

    service: ServiceKey
    replica: int
    slot: Slot

    @property
    def name(self) -> str:
        """The container's name: `project_env_service[_rN][_secondary]`."""
        base = f"{self.service.project}_{self.service.env}_{self.service.service}"
        if self.replica > 1:
            base += f"_r{self.replica}"
        return base + ("_secondary" if self.slot == "secondary" else "")

    @property
    def sidecar(self) -> str:
        """The name of the sidecar's container."""
        return f"{self.name}_sidecar"

    @property
    def other(self) -> InstanceKey:
        """The same replica in the other slot."""
        return InstanceKey(self.service, self.replica, other_slot(self.slot))

    def __str__(self) -> str:
        replica = f" replica {self.replica}" if self.replica > 1 else ""
        return f"{self.service}{replica} {self.slot}"


def network_name(project: str, env: str) -> str:
    """`project_env_network` (DESIGN section 4)."""
    return f"{project}_{env}_network"
