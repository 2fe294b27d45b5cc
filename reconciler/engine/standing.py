"""Whether this server may act and decide: its name, its membership, its view and its program (DESIGN section 6)."""

from __future__ import annotations

from reconciler.engine.following import Copy
from reconciler.engine.newer import older
from reconciler.engine.world import Identity
from reconciler.errors import Stalled
from reconciler.model.cluster import ClusterState
from reconciler.model.observed import Observed
from reconciler.model.report import Report


def check_name(server: str, identity: Identity, told: Report | None, observed: Observed) -> None:
    """Two machines with one name would undo each other's work (FAULTS 6). Raises Stalled, naming the other one.

    A report with another identity is this machine's own past when its containers are here (the state directory was lost), and
    another machine's when they are not, or when the state directory is a copy.
    """
    if told is None or told.instance == identity.own:
        return
    if observed.containers and identity.copied_from is None:
        return
    raise Stalled(
        f"another machine (instance {told.instance}) reports as {server}; this one (instance {identity.own}) does nothing. "
        f"Give this server another name, or, if the other one is gone for good, delete the branch status/{server}",
        reason="NameTaken",
    )


def may_decide(server: str, program: str, cluster: ClusterState, *, behind: bool) -> bool:
    """Members decide, unless their view (`behind`) or their program is older than the one that decided last."""
    if server not in cluster.members or (behind and len(cluster.members) > 1):
        return False
    return not older(program, cluster.decided_by.program)


def sole(server: str, own: Copy | None) -> bool:
    """A sole member decides locally, once `members: [it]` has landed on the remote (DESIGN section 5)."""
    return own is not None and own.based_on is not None and own.cluster.members == (server,)
