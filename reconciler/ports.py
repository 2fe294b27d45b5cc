"""Port arithmetic, public and standard-library only, so that applications and scripts can compute the same numbers.

DESIGN section 3: H is the first 8 bytes of SHA-256, big-endian, the same on every machine and every Python.

    internal port                  5000 + H("project_env_service_internal") % 1000
    host port, primary slot        8000 + H("project_env_service_containerport") % 1000
    host port, secondary slot      primary + 10000
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Slot = Literal["primary", "secondary"]

INTERNAL_BASE = 5000
HOST_BASE = 8000
BUCKETS = 1000
SECONDARY_OFFSET = 10000


def bucket_hash(text: str) -> int:
    """H: the first 8 bytes of SHA-256 of `text` (UTF-8), read big-endian."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def internal_port(project: str, env: str, service: str) -> int:
    """The port on localhost at which consumers inside the project reach `service`: 5000 to 5999, stable for ever."""
    return INTERNAL_BASE + bucket_hash(f"{project}_{env}_{service}_internal") % BUCKETS


def host_port(project: str, env: str, service: str, container_port: int, slot: Slot = "primary") -> int:
    """The port published on the server for a slot, before any collision on that server is resolved.

    8000 to 8999 for the primary slot, 18000 to 18999 for the secondary one. Raises ValueError for an unknown slot.
    """
    if slot not in ("primary", "secondary"):
        raise ValueError(f"slot is {slot!r}; expected 'primary' or 'secondary'")
    primary = HOST_BASE + bucket_hash(f"{project}_{env}_{service}_{container_port}") % BUCKETS
    return primary if slot == "primary" else primary + SECONDARY_OFFSET


@dataclass(frozen=True)
class DeploymentPortResolver:
    """The same arithmetic for one project and environment."""

    project: str
    env: str

    def get_internal_port(self, service: str) -> int:
        """See `internal_port`."""
        return internal_port(self.project, self.env, service)

    def generate_host_port(self, service: str, container_port: int, slot: Slot = "primary") -> int:
        """See `host_port`."""
        return host_port(self.project, self.env, service, container_port, slot)
