"""This server's own copy of the cluster state, durable beside nginx's configurations (DESIGN section 6)."""

from __future__ import annotations

import json
from collections.abc import Callable

from reconciler.engine.following import Copy
from reconciler.engine.ports import JournalPort
from reconciler.model.cluster import ClusterState

CLUSTER_FILE = "cluster.json"


def keep_copy(journal: JournalPort, own: Copy) -> None:
    """Remember, durably, before anything is done because of it. Raises Transient."""
    document = {
        "based_on": own.based_on,
        "reasons": list(own.reasons),
        "cluster": own.cluster.model_dump(mode="json", by_alias=True),
    }
    journal.write(CLUSTER_FILE, json.dumps(document, indent=1).encode())


def load_copy(journal: JournalPort, say: Callable[[str], None]) -> Copy | None:
    """The copy as it was kept last; None, with a word about it, when it is damaged."""
    data = journal.read(CLUSTER_FILE)
    if data is None:
        return None
    try:
        document = json.loads(data)
        return Copy(ClusterState.model_validate(document["cluster"]), document["based_on"], tuple(document["reasons"]))
    except (ValueError, KeyError, TypeError):
        say(f"{CLUSTER_FILE} in the state directory is damaged; going on from the remote's cluster state")
        return None
