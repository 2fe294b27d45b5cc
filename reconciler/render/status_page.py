"""`README.md` on `status/cluster`: the cluster at a glance, as a table that Git hosts render."""

from __future__ import annotations

from reconciler.model.cluster import ClusterState, ServiceState
from reconciler.render.messages import printable


def status_page(cluster: ClusterState) -> str:
    """Markdown: one row per service, sorted; deterministic, without times."""
    lines = [
        "# Cluster status",
        "",
        f"Config `{cluster.config[:12]}`, generation {cluster.generation}, members: {', '.join(cluster.members)}.",
        "",
    ]
    if cluster.brake:
        lines += [f"**Brake:** {_cell(cluster.brake)}", ""]
    lines += ["| service | live | on | rollout | note |", "|---|---|---|---|---|"]
    lines += [_row(name, state) for name, state in sorted(cluster.services.items())]
    return "\n".join(lines) + "\n"


def _row(name: str, state: ServiceState) -> str:
    live = f"`{state.live.revision[:7]}`" if state.live is not None else "nothing"
    where = ", ".join(f"{b.server} {b.slot}" for b in state.backends if b.role == "live") or "nowhere"
    rollout = state.rollout
    told = f"{rollout.phase} {rollout.id}: {rollout.cause}" if rollout is not None else ""
    note = state.held or (rollout.reason if rollout is not None and rollout.reason else "") or ""
    return f"| {name} | {live} | {_cell(where)} | {_cell(told)} | {_cell(note)} |"


def _cell(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
