"""What a person asks of the daemon, as a durable file in the state directory: services to try again (`reconcile retry`).

Each wish names the very rollout that was refused, so it counts once and needs no clearing: only the command writes the file, the
daemon only reads it, and a wish whose rollout is no longer the service's last one means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from reconciler.engine.copies import CLUSTER_FILE
from reconciler.engine.ports import JournalPort
from reconciler.errors import Stalled, Transient
from reconciler.model.cluster import SCHEMA, ClusterState
from reconciler.plan.step import retriable, retry_wish

RETRY_FILE = "retry.json"


def wishes(journal: JournalPort, cluster: ClusterState | None) -> tuple[str, ...]:
    """The wishes that still count, for `Report.retry`. A damaged file holds none."""
    asked = _asked(journal.read(RETRY_FILE))
    return tuple(wish for wish in _open(cluster) if wish in asked) if cluster is not None else ()


def ask(journal: JournalPort, cluster: ClusterState, services: Iterable[str]) -> None:
    """Add wishes for services whose last rollout was aborted, durably. Those that no longer count are left out."""
    asked = _asked(journal.read(RETRY_FILE))
    new = {retry_wish(name, rollout) for name in services if (rollout := cluster.services[name].rollout) is not None}
    kept = sorted(wish for wish in _open(cluster) if wish in asked or wish in new)
    journal.write(RETRY_FILE, json.dumps({"retry": kept}, indent=1).encode())


def read_copy(state_dir: Path) -> ClusterState | None:
    """This server's own copy of the decision; None when there is none or it is damaged.

    Raises Transient if it may not be read, Stalled if a newer program has written it.
    """
    try:
        data = (state_dir / CLUSTER_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Transient(f"{state_dir / CLUSTER_FILE} cannot be read: {error.strerror}; try as root") from error
    try:
        cluster = ClusterState.model_validate(json.loads(data)["cluster"])
    except (ValueError, KeyError, TypeError):
        return None
    if cluster.schema_ > SCHEMA:
        raise Stalled(
            f"{state_dir / CLUSTER_FILE} has schema {cluster.schema_}, this program knows {SCHEMA}: it was written by a newer one; "
            "upgrade the program here",
            reason="NewerSchema",
        )
    return cluster


def _open(cluster: ClusterState) -> Iterable[str]:
    for name, state in sorted(cluster.services.items()):
        if state.rollout is not None and retriable(state):
            yield retry_wish(name, state.rollout)


def _asked(data: bytes | None) -> frozenset[str]:
    try:
        found = json.loads(data or b"{}").get("retry", [])
        return frozenset(str(wish) for wish in found)
    except (ValueError, AttributeError, TypeError):
        return frozenset()
