"""What is tidied now and then, in the background: images that nothing uses, long histories of status refs."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.engine.polling import GIT_LANE
from reconciler.engine.publishing import CLUSTER
from reconciler.engine.turns import rank
from reconciler.engine.world import World
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.plan.activity import kept_images

CLEAN_JOB = "clean images"
COMPACT_JOB = "compact"


class Upkeep:
    """compact_after: commits from which on a history is shortened; 0 for never."""

    def __init__(self, world: World, server: str, compact_after: int, say: Callable[[str], None]) -> None:
        self._world = world
        self._server = server
        self._compact_after = compact_after
        self._say = say

    def clean_images(self, desired: Desired, cluster: ClusterState) -> bool:
        """Remove built images that nothing uses; live, previous and wanted ones are kept. False: it is under way."""
        keep = kept_images(desired, cluster)
        return self._world.jobs.submit(CLEAN_JOB, lambda: self._world.docker.remove_unused_images(keep), lane="images")

    def compact(self, cluster: ClusterState) -> bool:
        """Shorten the own report's history, and the cluster state's if it is this server that decided last, so that one does it."""
        after = self._compact_after
        if not after:
            return False
        decider = self._server in cluster.members and rank(self._server, cluster.members, cluster.decided_by.server) == 0
        refs = (self._server, CLUSTER) if decider else (self._server,)
        return self._world.jobs.submit(COMPACT_JOB, lambda: self._world.git.compact(refs, after), lane=GIT_LANE)

    def finished(self, name: str, result: object) -> bool:
        """Take a result, if it is one of these jobs'; True when the tips of status refs are others now."""
        done = isinstance(result, tuple) and bool(result)
        if name == COMPACT_JOB and isinstance(result, tuple) and result:
            self._say(f"shortened the history of {', '.join(f'status/{ref}' for ref in result)}")
        elif name == CLEAN_JOB and isinstance(result, tuple) and result:
            self._say(f"removed {len(result)} images that nothing uses any more")
        return name == COMPACT_JOB and done
