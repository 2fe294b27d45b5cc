"""What a simulated program sees of its own server at the beginning of a pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.observed import Gate, NginxState, Observed, Refusal
from reconciler.plan.ending import drained_names
from reconciler.plan.gates import GateTarget, gate_targets
from reconciler.plan.planner import stalls
from tests.simulation.boxes import Box, Boxes
from tests.simulation.pulls import Pulls
from tests.simulation.versions import healthy_after

if TYPE_CHECKING:
    from tests.simulation.daemon import Daemon

FAILS_AFTER = 5.0


class Probes:
    """The prober: since when it has probed which container."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def gates(self, boxes: Boxes, targets: Mapping[str, GateTarget], now: float) -> dict[str, Gate]:
        """For `Observed.gates`: what is no target any more is forgotten."""
        self._since = {box: self._since.get(box, now) for box in targets}
        return {
            identity: _gate(boxes, target, boxes.boxes[identity], now, self._since[identity])
            for identity, target in targets.items()
        }


def look(daemon: Daemon, desired: Desired) -> Observed:
    """Everything that a pass looks at."""
    boxes, cluster, now = daemon.boxes, daemon.cluster, daemon.world.now
    daemon.observed_at = now
    daemon.pairs = pairs_of(boxes, daemon.pairs, cluster)
    window = daemon.clock() - 600.0
    daemon.heals = {name: kept for name, times in daemon.heals.items() if (kept := [t for t in times if t >= window])}
    observed = seen_of(boxes, daemon.pulls, now)
    observed.__dict__.update(
        pairs=dict(daemon.pairs),
        nginx=nginx_states(boxes, daemon.refusals.of),
        dead=daemon.pulses.dead(),
        locals={f"shop/prod/{name}": value for name, value in daemon.locals.items()},
        heals={name: len(times) for name, times in daemon.heals.items()},
        starting=frozenset(daemon.in_hand),
    )
    observed.__dict__["gates"] = daemon.probes.gates(boxes, gate_targets(desired, cluster, observed), now)
    if cluster is not None:
        observed.__dict__["connections"] = daemon.world.connections(daemon, drained_names(cluster, observed))
        errors = {about: (why, passing) for _, _, about, passing, why in daemon.troubles.values() if about is not None}
        errors |= stalls(desired, cluster, observed, daemon.elapsed(cluster, observed), daemon.site)
        observed.__dict__["start_errors"] = errors
    return observed


def seen_of(boxes: Boxes, pulls: Pulls, now: float) -> Observed:
    """What Docker shows of a server; nothing else is known yet."""
    return Observed.model_construct(
        server=boxes.server,
        pairs={},
        containers=tuple(b.container() for b in sorted(boxes.boxes.values(), key=lambda b: b.plan.name)),
        foreign=frozenset({"somebody_else"}),
        networks=dict(boxes.networks),
        own_networks=frozenset(boxes.networks) - {"bridge"},
        images=dict(pulls.states(now)),
        gates={},
        connections={},
        nginx={},
        dead={},
        busy_ports=frozenset(),
        busy_loopback=frozenset(),
        locals={},
        missing_secrets={},
        heals={},
        warnings={},
        start_errors={},
        starting=frozenset(),
    )


def pairs_of(boxes: Boxes, known: Mapping[str, tuple[str, str]], cluster: ClusterState | None) -> dict[str, tuple[str, str]]:
    """The pairs of addresses that instances have: those of what is here, and those known of what is listed."""
    there = [box.plan.labels for box in boxes.boxes.values()]
    here = {f"{labels.service}#{labels.replica}" for labels in there}
    listed = cluster.services if cluster is not None else {}
    kept = {name: pair for name, pair in known.items() if name in here or name.partition("#")[0] in listed}
    shown = {
        f"{labels.service}#{labels.replica}": labels.addresses
        for labels in there
        if labels.service is not None and labels.addresses is not None
    }
    return kept | shown


def nginx_states(
    boxes: Boxes, refusals: Callable[[str, int], tuple[Refusal, ...]] = lambda name, number: ()
) -> dict[str, NginxState]:
    """The running nginxes, by container name. `refusals`: what a program has learnt of one, by its name and number."""
    found = {}
    for box in boxes.boxes.values():
        if box.plan.labels.role != "application" and box.status == "running":
            loaded = box.loaded.meaning.fingerprint if box.loaded is not None else None
            workers = len(box.workers) if box.plan.labels.role == "edge" else 0
            learnt = refusals(box.plan.name, box.number)
            found[box.plan.name] = _nginx(box.plan.name, loaded, workers, box.refused, box.tries, learnt)
    return found


def _nginx(
    name: str, loaded: str | None, workers: int, refused: tuple[str, str] | None, tries: int, refusals: tuple[Refusal, ...]
) -> NginxState:
    """The same object for the same state: what has not changed is compared by identity."""
    if refusals:
        return _state(name, loaded, workers, refused, tries).model_copy(update={"refusals": refusals})
    return _state(name, loaded, workers, refused, tries)


@lru_cache(maxsize=4096)
def _state(name: str, loaded: str | None, workers: int, refused: tuple[str, str] | None, tries: int) -> NginxState:
    text, error = refused if refused is not None else (None, None)
    return NginxState.model_construct(
        name=name, loaded=loaded, old_workers=workers, refused=text, error=error, tries=tries, refusals=()
    )


def _gate(boxes: Boxes, target: GateTarget, box: Box, now: float, since: float) -> Gate:
    waited = now - max(since, box.started)
    running = box.status == "running" and target.owner.status == "running"
    after = healthy_after(box.plan.labels.spec, boxes.server)
    if box.status in ("exited", "dead"):
        return Gate.model_construct(state="failed", error=f"exited with code {box.exit_code}")
    if running and after is not None and waited >= after:
        return Gate.model_construct(state="passed", after=after)
    if running and after is None and waited >= FAILS_AFTER:
        return Gate.model_construct(state="failed", error="connection refused")
    return Gate.model_construct(state="waiting")
