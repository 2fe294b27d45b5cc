"""How long a rollout took, as the commits of the shared decision tell it."""

from __future__ import annotations

from tests.cluster.bed import Bed


def waited(bed: Bed, service: str) -> int:
    """Seconds from the decision that switched a service's last rollout to the one that ended it."""
    switched, ended = 0, 0
    last = bed.cluster().services[service].rollout
    for commit in bed.remote.log("status/cluster"):  # the newest first
        rollout = bed.cluster(commit.sha).services[service].rollout
        if rollout is None or last is None or (rollout.id, rollout.switched_at) != (last.id, last.switched_at):
            break
        switched = bed.written("status/cluster", commit.sha)
        ended = switched if rollout.phase == "done" else ended
    return ended - switched
