"""This server's own copy of the cluster state, durable beside nginx's configurations (DESIGN section 6)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from reconciler.engine.following import Copy, Followed
from reconciler.engine.ports import JournalPort
from reconciler.engine.publishing import PushOutcome
from reconciler.model.cluster import SCHEMA, ClusterState

CLUSTER_FILE = "cluster.json"


class OwnCopy:
    """What this server follows now. Each change is durable before anything is done because of it, else it raises Transient."""

    def __init__(self, journal: JournalPort, say: Callable[[str], None]) -> None:
        self._journal = journal
        self._now = load_copy(journal, say)

    @property
    def now(self) -> Copy | None:
        """The copy; None when there is nothing to follow."""
        return self._now

    @property
    def cluster(self) -> ClusterState | None:
        """The decision that is followed."""
        return self._now.cluster if self._now is not None else None

    @property
    def tip(self) -> str | None:
        """The remote's commit that it was made on."""
        return self._now.based_on if self._now is not None else None

    def follow(self, followed: Followed) -> None:
        """Go on from what was chosen at a poll."""
        own = self._now
        if followed.cluster is None:
            self._now = None
        elif own is None or followed.cluster is not own.cluster or followed.based_on != own.based_on:
            self._keep(Copy(followed.cluster, followed.based_on, followed.reasons, followed.lost))

    def decided(self, cluster: ClusterState, reasons: tuple[str, ...]) -> None:
        """A sole member's decision: followed at once, ahead of the remote, which is told the reasons later."""
        own = self._now
        self._keep(replace(own, cluster=cluster, reasons=(*own.reasons, *reasons)) if own else Copy(cluster, None, reasons))

    def pushed(self, outcome: PushOutcome) -> None:
        """What a push has brought onto the remote."""
        if outcome.cluster is None:
            return
        landed, oid, said = outcome.cluster
        if self._now is None or outcome.adopt:
            self._keep(Copy(landed, oid))
        else:
            self._keep(Copy(self._now.cluster, oid, self._now.reasons[said:]))

    def _keep(self, copy: Copy) -> None:
        # First in memory: with a full disk this pass ends with that problem, and the next one heals by the newest decision.
        self._now = copy
        keep_copy(self._journal, copy)


def keep_copy(journal: JournalPort, own: Copy) -> None:
    """Remember, durably, before anything is done because of it. Raises Transient."""
    document = {
        "based_on": own.based_on,
        "reasons": list(own.reasons),
        "lost": own.lost,
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
        cluster = ClusterState.model_validate(document["cluster"])
        if cluster.schema_ > SCHEMA:
            say(f"{CLUSTER_FILE} in the state directory has schema {cluster.schema_}, a newer program's; waiting for the remote's")
            return None
        return Copy(cluster, document["based_on"], tuple(document["reasons"]), document.get("lost"))
    except (ValueError, KeyError, TypeError):
        say(f"{CLUSTER_FILE} in the state directory is damaged; going on from the remote's cluster state")
        return None
