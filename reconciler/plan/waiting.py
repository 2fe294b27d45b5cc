"""What a rollout waits for, by name, as the reports tell it to anybody who reads them (DESIGN section 6, steps 1 to 5).

`decide` says the same in `Rollout.reason` where it has to; here nothing is decided, so nothing but the reports is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reconciler.model.cluster import Backend, ClusterState, Rollout, ServiceState
from reconciler.model.identity import ServiceKey
from reconciler.model.report import InstanceReport, Report
from reconciler.plan.votes import acknowledged, gone, tally, unretired


def waits_for(key: ServiceKey, state: ServiceState, cluster: ClusterState, reports: Mapping[str, Report]) -> tuple[str, ...]:
    """One sentence for each thing that the rollout of a service waits for; none when no rollout is under way."""
    rollout = state.rollout
    if rollout is None or rollout.phase in ("done", "aborted"):
        return ()
    match rollout.phase:
        case "staging":
            found = tuple(_gates(key, _voters(state, rollout), rollout, cluster, reports))
            return found or _told(rollout) or ("every server is ready; the next pass of a member goes on",)
        case "replacing":
            turn = [b for b in state.backends if b.role == "live" and b.server == rollout.replacing]
            found = tuple(_gates(key, turn, rollout, cluster, reports))
            return found or _told(rollout) or (f"waiting for {rollout.replacing}, whose turn it is",)
        case "switching" | "draining":
            found = tuple(_after(key, state, rollout, cluster, reports))
            extra = tuple(words for words in _told(rollout) if words not in found)
            return (*found, *extra) or ("nothing is waited for; the next pass of a member goes on",)
        case _:
            return _told(rollout) or (rollout.phase,)


def _told(rollout: Rollout) -> tuple[str, ...]:
    return (rollout.reason,) if rollout.reason else ()


def _voters(state: ServiceState, rollout: Rollout) -> list[Backend]:
    """The backends whose servers vote: what is staged, or with `recreate`, which has nothing beside, what is to be replaced."""
    if rollout.strategy != "recreate":
        return [b for b in state.backends if b.role == "staged"]
    live = [b for b in state.backends if b.role == "live"]
    return [b for b in live if (b.server in rollout.scope if rollout.scope is not None else b.spec != rollout.target)]


def _gates(
    key: ServiceKey, backends: Sequence[Backend], rollout: Rollout, cluster: ClusterState, reports: Mapping[str, Report]
) -> Iterable[str]:
    votes = tally(key, backends, rollout, cluster, reports)
    for backend, entry in votes.failed:
        yield f"{backend.server} failed" + (f": {entry.reason}" if entry.reason else "")
    same: dict[str, list[str]] = {}
    for backend, waiting in votes.waiting:
        same.setdefault(_doing(waiting), []).append(backend.server)
    for what, servers in same.items():
        yield f"waiting for {', '.join(dict.fromkeys(servers))} {what}"


def _doing(entry: InstanceReport | None) -> str:
    if entry is None:
        return "to say anything of it"
    doing = {
        "preparing": "to prepare the image",
        "starting": "to become healthy",
        "waiting": "to be able to start it",
    }.get(entry.phase, f"({entry.phase})")
    return doing + (f": {entry.reason}" if entry.reason else "")


def _after(
    key: ServiceKey, state: ServiceState, rollout: Rollout, cluster: ClusterState, reports: Mapping[str, Report]
) -> Iterable[str]:
    """After the switch: acknowledgements, then old workers (only a removal waits for these), then old instances."""
    since = rollout.switched_at or 0
    silent = acknowledged(cluster, reports, since, key)
    if silent:
        yield f"waiting for {', '.join(silent)} to acknowledge generation {since}"
    elif rollout.strategy == "remove" and (old := unretired(cluster, reports, since, key)):
        yield f"waiting for old nginx workers of {', '.join(old)}"
    if rollout.phase != "draining" and rollout.strategy != "remove":
        return
    left: dict[str, str] = {}
    for backend in (b for b in state.backends if b.role == "draining"):
        if not gone(key, backend, rollout, cluster, reports):
            left.setdefault(backend.server, _connections(key, backend, reports.get(backend.server)))
    if left and not silent:
        yield f"waiting for {', '.join(f'{server}{words}' for server, words in left.items())} to end the old instance"


def _connections(key: ServiceKey, backend: Backend, report: Report | None) -> str:
    place = (str(key), backend.replica, backend.slot)
    entries = report.instances if report is not None else ()
    entry = next((e for e in entries if (e.service, e.replica, e.slot) == place), None)
    if entry is None or not entry.connections:
        return ""
    return f" ({entry.connections} connection{'' if entry.connections == 1 else 's'})"
