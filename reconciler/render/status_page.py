"""`README.md` on `status/cluster`: the cluster at a glance, as tables and a diagram that Git hosts render.

Made from the decision and the inventory alone, so that it changes only when a decision changes it: no ages, and nothing of what
servers say by themselves. The time of everything here is the time of its commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from reconciler.model.cluster import Backend, ClusterState, ServiceState
from reconciler.model.desired import Revision, ServerEntry
from reconciler.render.escaping import code, markdown
from reconciler.render.status_diagram import Entries, by_server, counts, diagram, version

ENDED = ("done", "aborted")
LISTED_MOST = 6
"""Beyond this many, places and instances are counted."""


def status_page(cluster: ClusterState, servers: Mapping[str, ServerEntry] | None = None, revision: Revision | None = None) -> str:
    """Markdown. `servers`: the inventory. `revision`: the config commit that is followed, for its subject."""
    inventory = servers or {}
    subject = f" ({markdown(revision.subject)})" if revision is not None and revision.sha == cluster.config else ""
    lines = [
        "# Cluster status",
        "",
        f"Config {code(cluster.config[:12])}{subject}, generation {cluster.generation}, "
        f"decided by {code(cluster.decided_by.server)}. {_verdict(cluster)}",
        "",
    ]
    if cluster.brake:
        lines += [f"**Brake:** {markdown(cluster.brake)}", ""]
    lines += ["| service | live | on | last change | note |", "|---|---|---|---|---|"]
    services = sorted(cluster.services.items(), key=lambda item: (_settled(item[1]), item[0]))  # first what needs a look
    lines += [_row(name, state, inventory) for name, state in services]
    lines += ["", "| zone | server | part | instances |", "|---|---|---|---|"]
    lines += _servers(cluster, inventory)
    lines += ["", "```mermaid", *diagram(cluster, inventory), "```", ""]
    lines += [
        "Green has the traffic, yellow is staged and has none yet, blue is kept as the way back, grey is draining. The log of this "
        "branch says when and why; `reconcile status --cluster --repo URL` adds what each server says, and who is behind.",
    ]
    return "\n".join(lines) + "\n"


def _verdict(cluster: ClusterState) -> str:
    amiss = [state for state in cluster.services.values() if not _settled(state)]
    if not amiss:
        return "Everything that is desired is live."
    under_way = sum(_under_way(state) for state in amiss)
    parts = [(under_way, "rolling out"), (len(amiss) - under_way, "held back or refused")]
    told = ", ".join(f"{count} {what}" for count, what in parts if count)
    return f"{len(cluster.services)} service{'' if len(cluster.services) == 1 else 's'}: {told}."


def _under_way(state: ServiceState) -> bool:
    return state.rollout is not None and state.rollout.phase not in ENDED


def _settled(state: ServiceState) -> bool:
    return not (_under_way(state) or state.held or state.rejected) and state.live is not None


def _row(name: str, state: ServiceState, inventory: Mapping[str, ServerEntry]) -> str:
    live = code(state.live.revision[:7]) if state.live is not None else "nothing"
    rollout = state.rollout
    change = rollout.cause if rollout is not None else ""
    if rollout is not None and rollout.phase != "done":
        change = f"{rollout.phase} {rollout.id}: {change}"
    refused = f"{state.rejected.revision[:7]} refused: {state.rejected.reason}" if state.rejected is not None else ""
    waits = rollout.reason if rollout is not None and rollout.reason else ""
    note = state.held or refused or waits
    return f"| {markdown(name)} | {live} | {markdown(_where(state, inventory))} | {markdown(change)} | {markdown(note)} |"


def _where(state: ServiceState, inventory: Mapping[str, ServerEntry]) -> str:
    live = [b for b in state.backends if b.role == "live"]
    if len(live) <= LISTED_MOST:
        return ", ".join(_place(state, b) for b in live) or "nowhere"
    zones = Counter(inventory[name].zone if name in inventory else "no zone" for name in {b.server for b in live})
    return ", ".join(f"{zone}: {count} server{'' if count == 1 else 's'}" for zone, count in sorted(zones.items()))


def _place(state: ServiceState, backend: Backend) -> str:
    """Server and slot, with the version where it is another one than the service's."""
    replica = f" ({backend.replica})" if backend.replica > 1 else ""
    other = f" {version(state, backend)}" if state.live is not None and backend.spec != state.live.spec else ""
    return f"{backend.server} {backend.slot}{replica}{other}"


def _servers(cluster: ClusterState, inventory: Mapping[str, ServerEntry]) -> Iterable[str]:
    """One row per server, by zone; servers that are not in the inventory come last."""
    here = by_server(cluster)
    names = {*inventory, *cluster.members, *here}
    for name in sorted(names, key=lambda name: (name not in inventory, inventory[name].zone if name in inventory else "", name)):
        entry = inventory.get(name)
        part = "member" if name in cluster.members else "no member yet" if entry is not None else "not in the inventory"
        drained = ", drained" if entry is not None and entry.state == "drained" else ""
        told = markdown(", ".join(_instances(here.get(name, ()))))
        yield f"| {markdown(entry.zone) if entry is not None else ''} | {markdown(name)} | {part}{drained} | {told} |"


def _instances(entries: Entries) -> Iterable[str]:
    if not entries or len(entries) > LISTED_MOST:
        yield from counts(entries)
        return
    for name, state, backend in entries:
        replica = f" ({backend.replica})" if backend.replica > 1 else ""
        role = "" if backend.role == "live" else f" {backend.role}"
        yield f"{name}{replica} {version(state, backend)} {backend.slot}{role}"
