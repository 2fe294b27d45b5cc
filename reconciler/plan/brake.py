"""The brake: a commit that would remove too much removes nothing until it says so (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.identity import ServiceKey


@dataclass(frozen=True)
class Brake:
    """`kept`: services that stay although the config no longer has them, with the reason. `message` says what to do."""

    kept: Mapping[ServiceKey, str]
    message: str | None


def brake(desired: Desired, cluster: ClusterState) -> Brake:
    """More than one service and more than a quarter of what runs, or an empty tree: keep those not named in `allow_removals`.

    A service whose project's file is invalid is kept without being counted: invalid never means removed.
    """
    running = {ServiceKey.parse(name) for name, state in cluster.services.items() if state.live is not None}
    missing = {key for key in running if key not in desired.services}
    unread = {key: f"{key.project}/{key.env} is invalid" for key in missing if f"{key.project}/{key.env}" in desired.invalid}
    removed = missing - unread.keys()
    unnamed = {key for key in removed if not _allowed(key, desired.allow_removals)}
    emptied = bool(removed) and not desired.services
    if not unnamed or not (emptied or (len(removed) > 1 and len(removed) * 4 > len(running))):
        return Brake(unread, None)
    names = ", ".join(str(key) for key in sorted(unnamed))
    message = (
        f"{desired.revision.short} would remove {len(removed)} of {len(running)} running services; kept: {names}. "
        f"To remove them, commit `allow_removals: [{names}]` in cluster.yaml"
    )
    return Brake(unread | dict.fromkeys(unnamed, "brake: removal of too many services at once"), message)


def _allowed(key: ServiceKey, allowed: tuple[str, ...]) -> bool:
    return any(name in (str(key), f"{key.project}/{key.env}", key.project) for name in allowed)
