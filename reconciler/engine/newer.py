"""After programs were put back to an older version: whether anybody is left who may decide (docs/operations.md)."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.errors import Stalled
from reconciler.model.cluster import ClusterState
from reconciler.model.report import Report

GO_BACK = 'To go back to an older program on every server: docs/operations.md, "Go back to an older program"'


def no_decider(server: str, program: str, cluster: ClusterState, reports: Mapping[str, Report]) -> Stalled | None:
    """Why nobody decides any more, as far as `server` with its `program` knows: every member's is older than the last decider's."""
    last = cluster.decided_by
    programs = {program, *(report.program for name, report in reports.items() if name in cluster.members and name != server)}
    if server not in cluster.members or any(not older(each, last.program) for each in programs):
        return None
    return Stalled(
        f"nobody decides: {last.server} decided last, with program {last.program}; every member's is older now (here {program}). "
        f"What runs goes on; commits wait. Upgrade a member to {last.program} or newer. {GO_BACK}",
        reason="OlderProgram",
    )


def older(program: str, than: str) -> bool:
    """Whether one version of the program comes before another."""
    return _version(program) < _version(than)


def _version(program: str) -> tuple[int, ...]:
    return tuple(int(part) for part in program.split(".") if part.isdigit())
