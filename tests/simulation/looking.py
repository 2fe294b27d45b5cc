"""What a simulated program sees of its own server at the beginning of a pass."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.observed import Gate, NginxState, Observed, Refusal
from reconciler.plan.ending import drained_names
from reconciler.plan.gates import gate_targets
from reconciler.plan.planner import stalls
from tests.simulation.versions import healthy_after

if TYPE_CHECKING:
    from tests.simulation.daemon import Daemon

FAILS_AFTER = 5.0


def look(daemon: Daemon, desired: Desired) -> Observed:
    """Everything that a pass looks at."""
    boxes, cluster, now = daemon.boxes, daemon.cluster, daemon.world.now
    daemon.observed_at = now
    containers = tuple(b.container() for b in sorted(boxes.boxes.values(), key=lambda b: b.plan.name))
    for container in containers:
        labels = container.labels
        if labels.service is not None and labels.addresses is not None:
            daemon.pairs[f"{labels.service}#{labels.replica}"] = labels.addresses
    listed = cluster.services if cluster is not None else {}
    here = {f"{c.labels.service}#{c.labels.replica}" for c in containers}
    daemon.pairs = {name: pair for name, pair in daemon.pairs.items() if name in here or name.partition("#")[0] in listed}
    window = daemon.clock() - 600.0
    daemon.heals = {name: kept for name, times in daemon.heals.items() if (kept := [t for t in times if t >= window])}
    observed = Observed.model_construct(
        server=daemon.name,
        pairs=dict(daemon.pairs),
        containers=containers,
        foreign=frozenset({"somebody_else"}),
        networks=dict(boxes.networks),
        own_networks=frozenset(boxes.networks) - {"bridge"},
        images=dict(daemon.pulls.states(now)),
        gates={},
        connections={},
        nginx=nginx_states(daemon),
        dead=daemon.pulses.dead(),
        busy_ports=frozenset(),
        busy_loopback=frozenset(),
        locals={f"shop/prod/{name}": value for name, value in daemon.locals.items()},
        missing_secrets={},
        heals={name: len(times) for name, times in daemon.heals.items()},
        warnings={},
        start_errors={},
        starting=frozenset(daemon.in_hand),
    )
    observed.__dict__["gates"] = _gates(daemon, desired, cluster, observed, now)
    if cluster is not None:
        observed.__dict__["connections"] = daemon.world.connections(daemon, drained_names(cluster, observed))
        errors = {about: (why, passing) for _, _, about, passing, why in daemon.troubles.values() if about is not None}
        errors |= stalls(desired, cluster, observed, daemon.elapsed(cluster, observed), daemon.site)
        observed.__dict__["start_errors"] = errors
    return observed


def nginx_states(daemon: Daemon) -> dict[str, NginxState]:
    """Its running nginxes, by container name."""
    found = {}
    for box in daemon.boxes.boxes.values():
        if box.plan.labels.role != "application" and box.status == "running":
            loaded = box.loaded.meaning.fingerprint if box.loaded is not None else None
            workers = len(box.workers) if box.plan.labels.role == "edge" else 0
            refusals = daemon.refusals.of(box.plan.name, box.number)
            found[box.plan.name] = _nginx(box.plan.name, loaded, workers, box.refused, box.tries, refusals)
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


def _gates(daemon: Daemon, desired: Desired, cluster: ClusterState | None, observed: Observed, now: float) -> dict[str, Gate]:
    gates = {}
    targets = gate_targets(desired, cluster, observed)
    daemon.probes = {box: since for box, since in daemon.probes.items() if box in targets}
    for identity, target in targets.items():
        box = daemon.boxes.boxes[identity]
        waited = now - max(daemon.probes.setdefault(identity, now), box.started)
        running = box.status == "running" and target.owner.status == "running"
        after = healthy_after(box.plan.labels.spec, daemon.name)
        if box.status in ("exited", "dead"):
            gate = Gate.model_construct(state="failed", error=f"exited with code {box.exit_code}")
        elif running and after is not None and waited >= after:
            gate = Gate.model_construct(state="passed", after=after)
        elif running and after is None and waited >= FAILS_AFTER:
            gate = Gate.model_construct(state="failed", error="connection refused")
        else:
            gate = Gate.model_construct(state="waiting")
        gates[identity] = gate
    return gates
