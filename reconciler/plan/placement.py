"""Which servers a service runs on: rendezvous hashing, the same answer on every server without asking anybody.

Each server gets a score from the service's key and its own name; the highest `count` win. A server that comes or goes changes only
the services that it wins or loses itself (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.model.desired import ServerEntry
from reconciler.model.identity import ServiceKey
from reconciler.ports import bucket_hash


@dataclass(frozen=True)
class Placement:
    """The chosen servers, sorted; `missing` is how many more were asked for than there are."""

    servers: tuple[str, ...]
    missing: int = 0


def place(key: ServiceKey, count: int, zone: str | None, servers: Iterable[ServerEntry]) -> Placement:
    """Choose `count` of the active servers of `zone` (None: of every zone)."""
    eligible = [server.name for server in servers if server.state == "active" and zone in (None, server.zone)]
    ranked = sorted(eligible, key=lambda name: (bucket_hash(f"{key}|{name}"), name), reverse=True)
    return Placement(tuple(sorted(ranked[:count])), max(0, count - len(ranked)))
