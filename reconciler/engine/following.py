"""Which cluster state to go on from, when the remote's and this server's own copy differ (DESIGN section 6, Epoch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import yaml
from pydantic import ValidationError

from reconciler.engine.documents import Unreadable, parse
from reconciler.errors import Stalled
from reconciler.model.cluster import SCHEMA, ClusterState, Decider
from reconciler.model.report import Report

SUPERSEDED_MOST = 8
"""Epochs that a cluster state remembers to have replaced."""


class _Plain(yaml.SafeDumper):
    """Without aliases, which are refused when it is read."""

    def ignore_aliases(self, data: object) -> bool:
        return True


@dataclass(frozen=True)
class Copy:
    """This server's own copy. `based_on` is the remote tip that it was made on; `reasons` are not pushed yet.

    lost: the commit that it goes on from, if that tip does not: the branch had lost it, and is to have it again.
    """

    cluster: ClusterState
    based_on: str | None
    reasons: tuple[str, ...] = ()
    lost: str | None = None

    @property
    def comes_from(self) -> str | None:
        """The commit of the decision that it goes on from."""
        return self.lost or self.based_on


@dataclass(frozen=True)
class Followed:
    """The state to go on from. `notice` says what was wrong with the remote's, when it was replaced by a rebuilt one."""

    cluster: ClusterState | None
    based_on: str | None
    reasons: tuple[str, ...] = ()
    notice: str | None = None
    lost: str | None = None

    def copy(self) -> Copy | None:
        """As this server's own."""
        return Copy(self.cluster, self.based_on, self.reasons, self.lost) if self.cluster is not None else None


@lru_cache(maxsize=8)
def read_cluster(data: bytes | None) -> ClusterState | None:
    """Parse the shared file. None when it is not there. Raises ValueError on garbage, Stalled on a newer schema."""
    if data is None:
        return None
    try:
        document = parse(data)
    except Unreadable as error:
        raise ValueError(f"status/cluster {error}") from error
    if not isinstance(document, dict):
        raise ValueError("status/cluster does not hold a cluster state")
    schema = document.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise Stalled(
            f"status/cluster has schema {schema}, this program knows {SCHEMA}: upgrade this server's program", reason="NewerSchema"
        )
    try:
        return ClusterState.model_validate(document)
    except ValidationError as error:
        raise ValueError(f"status/cluster is not a cluster state ({error.error_count()} problems)") from error


def write_yaml(model: object) -> bytes:
    """A model as the YAML text of a status file, keys in the models' order."""
    document = model.model_dump(mode="json", by_alias=True, exclude_none=True)  # type: ignore[attr-defined]
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, width=160, allow_unicode=True).encode()


def follow(
    remote: bytes | None,
    remote_oid: str | None,
    own: Copy | None,
    *,
    server: str,
    epoch: str,
    accepted: bool,
    lacks: str | None = None,
    seen: Mapping[str, int] | None = None,
) -> Followed:
    """Choose.

    remote, remote_oid: the shared file at the last poll. own: this server's copy, if it has one. epoch: fresh and random, used when
    the remote's is lost and has to be rebuilt by this `server`. accepted: this server's copy was already rebuilt on this very tip.
    lacks: a decision that the history of the remote's does not have (`engine/lineage.py`). seen: by epoch, the highest generation
    that a report speaks of.
    """
    damage = None
    try:
        found = read_cluster(remote)
    except ValueError as error:
        found, damage = None, str(error)
    return choose(found, damage, remote_oid, own, server=server, epoch=epoch, accepted=accepted, lacks=lacks, seen=seen)


def choose(
    found: ClusterState | None,
    damage: str | None,
    remote_oid: str | None,
    own: Copy | None,
    *,
    server: str,
    epoch: str,
    accepted: bool = False,
    lacks: str | None = None,
    seen: Mapping[str, int] | None = None,
) -> Followed:
    """The same for a shared file that was read: `found`, None when it is not there or when `damage` says what is wrong with it."""
    if own is None:
        told = seen.get(found.epoch, 0) if found is not None and seen is not None else 0
        if found is not None and told > found.generation and server in found.members:
            # Without a copy of what was lost, what is live is found again from what runs, as after a deletion. A newcomer does not
            # do that: it may see a sole member's report before its decision.
            lost = f"status/cluster was rewound to generation {found.generation}: the reports speak of {told}"
            return Followed(None, remote_oid, notice=lost)
        return Followed(found, remote_oid, notice=damage)
    if own.based_on == remote_oid or accepted:
        return Followed(own.cluster, remote_oid, own.reasons, lost=own.lost)
    known = own.comes_from
    if found is None:
        what = damage or "status/cluster was deleted"
    elif found.epoch in own.cluster.superseded:
        what = f"status/cluster was put back to the epoch {found.epoch[:8]}, which was given up"
    elif found.epoch != own.cluster.epoch and not (_untold(own, lacks) and _knows_more(own.cluster, found)):
        return Followed(found, remote_oid)
    elif found.epoch != own.cluster.epoch:
        what = f"status/cluster was rebuilt by {found.decided_by.server} without generation {own.cluster.generation}"
    elif found.generation < own.cluster.generation and not _ours(found, own.cluster):
        what = f"status/cluster was rewound from generation {own.cluster.generation} to {found.generation}"
    elif _ours(found, own.cluster) and (found.generation < own.cluster.generation or own.reasons):
        return Followed(own.cluster, remote_oid, own.reasons)
    elif found.generation == own.cluster.generation and _traffic(found) != _traffic(own.cluster):
        what = f"status/cluster was replaced: its generation {found.generation} sends the traffic elsewhere"
    elif known is not None and lacks == known:
        what = f"status/cluster was replaced: its generation {found.generation} has not come from {own.cluster.generation}"
    else:
        return Followed(found, remote_oid)
    given_up = (*own.cluster.superseded, *((*found.superseded, found.epoch) if found is not None else ()), own.cluster.epoch)
    given_up_at = {**(found.superseded_at if found is not None else {}), **own.cluster.superseded_at}
    if found is not None:
        given_up_at[found.epoch] = found.generation
    given_up_at[own.cluster.epoch] = own.cluster.generation
    kept = tuple(dict.fromkeys(given_up))[-SUPERSEDED_MOST:]
    # Whoever rebuilds it publishes it: of several that do, the first to land is followed by the others.
    decider = Decider(server=server, program=own.cluster.decided_by.program)
    rebuilt = own.cluster.model_copy(
        update={
            "schema_": SCHEMA,
            "epoch": epoch,
            "superseded": kept,
            "superseded_at": {epoch: generation for epoch, generation in given_up_at.items() if epoch in kept},
            "generation": own.cluster.generation + 1,
            "decided_by": decider,
        }
    )
    reason = f"{what}; rebuilt from this server's copy under a new epoch"
    return Followed(rebuilt, remote_oid, (reason, *own.reasons), notice=reason, lost=known)


def seen_by(reports: Iterable[Report]) -> dict[str, int]:
    """The highest generation of each epoch that servers say they have seen."""
    found: dict[str, int] = {}
    for report in reports:
        if report.seen is not None:
            found[report.seen.epoch] = max(report.seen.generation, found.get(report.seen.epoch, 0))
    return found


def _ours(found: ClusterState, own: ClusterState) -> bool:
    """Whether the remote's older state is a push of this server's that landed without its knowledge, so that nothing was lost.

    Only a sole member decides ahead of the remote. Among several, what one follows has landed: an older one was rewound.
    """
    return found.decided_by.server == own.decided_by.server and found.members == (found.decided_by.server,)


def _untold(own: Copy, lacks: str | None) -> bool:
    """Whether this server's copy holds what the remote's history does not: a commit that was lost, or decisions not pushed yet."""
    return bool(own.reasons) or (own.comes_from is not None and lacks == own.comes_from)


def _knows_more(own: ClusterState, found: ClusterState) -> bool:
    """Whether this server's copy is later than the one that another server has rebuilt the state from.

    Where that server never knew this epoch, as both were rebuilt from another one, the one with more generations counts. A state
    that has nothing to do with this server's knows nothing of what it lists as live.
    """
    if own.epoch in found.superseded_at:
        return own.generation > found.superseded_at[own.epoch]
    return own.generation > found.generation or own.superseded_at.keys().isdisjoint(found.superseded_at)


def _traffic(cluster: ClusterState) -> frozenset[tuple[str, str, int, str, str]]:
    """What is live where: it never changes within a generation."""
    return frozenset(
        (name, backend.server, backend.replica, backend.slot, backend.spec)
        for name, state in cluster.services.items()
        for backend in state.backends
        if backend.role == "live"
    )
