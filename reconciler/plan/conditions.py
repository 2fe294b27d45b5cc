"""The conditions of a report: facts about the server or a service, in the Kubernetes manner (docs/operations.md lists them)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.report import Condition, Serving
from reconciler.model.site import Site
from reconciler.plan import facts
from reconciler.plan.masks import TOLD_AFTER
from reconciler.plan.nginxes import Intended, stuck
from reconciler.plan.routes import host_collisions
from reconciler.plan.step import SIDECAR_STUCK
from reconciler.plan.upstreams import upstream_name
from reconciler.plan.wanted import Wanted, wanted


def conditions(
    desired: Desired,
    cluster: ClusterState | None,
    observed: Observed,
    site: Site,
    intended: Mapping[str, Intended],
    elapsed: Elapsed,
    serving: Serving | None,
) -> Iterable[Condition]:
    """Every fact about the server and its services that is worth a word. `serving`: what the report acknowledges."""
    revision = desired.revision.sha
    for name in sorted({site.edge_name, site.host_name} & observed.foreign):
        text = f"the container {name} is there and is not ours; rename or remove it"
        yield Condition(type="NginxLoaded", status=False, reason="ForeignContainer", message=text)
    for name, problems in sorted(desired.invalid.items()):
        text = "; ".join(str(problem) for problem in problems[:5])
        yield Condition(type="ConfigValid", status=False, reason="InvalidConfig", message=text, service=name, revision=revision)
    yield from _nginx_conditions(desired, cluster, observed, intended)
    yield from _masks(desired, cluster, observed, intended, elapsed)
    for reference, image in sorted(observed.images.items()):
        if image.unasked is not None:
            text = f"{reference}: what it means now could not be asked, so what was here already is used: {image.unasked}"
            yield Condition(type="Warning", status=True, reason="RegistryAway", message=text)
    for name, text in sorted(observed.warnings.items()):
        yield Condition(type="Warning", status=True, reason="Warning", message=text, service=name)
    for name, (port, holder) in host_collisions(cluster, observed).items() if cluster is not None and site.host_listener else ():
        text = f"127.0.0.1:{port} of the server is in use by {holder}: from outside Docker it cannot be reached there"
        yield Condition(type="Warning", status=True, reason="PortInUse", message=text, service=name)
    if cluster is not None and cluster.brake:
        yield Condition(type="Brake", status=True, reason="TooManyRemovals", message=cluster.brake, revision=revision)
    waiting = ["the cluster state is not created yet"]
    if cluster is not None:
        sole = cluster.members == (observed.server,)
        waiting = sorted(_unsettled(cluster) if sole else _own_part(cluster, observed.server, serving))
    if waiting:
        yield Condition(type="Ready", status=False, reason="Progressing", message="; ".join(waiting), revision=revision)
    else:
        yield Condition(type="Ready", status=True, reason="Reconciled", revision=revision)


def stuck_sidecars(
    desired: Desired, cluster: ClusterState, observed: Observed, intended: Mapping[str, Intended]
) -> Iterable[tuple[Wanted, str]]:
    """Live instances whose sidecar cannot reload, with nginx's own line."""
    for want in wanted(desired, cluster, observed):
        name = want.instance.sidecar
        if want.gated or name not in intended or name not in observed.nginx:
            continue
        why = stuck(intended[name], observed.nginx[name])
        if why is not None:
            yield want, why


def _nginx_conditions(
    desired: Desired, cluster: ClusterState | None, observed: Observed, intended: Mapping[str, Intended]
) -> Iterable[Condition]:
    """What the nginxes have refused: by service where nginx's own line puts the blame on one."""
    keys = {upstream_name(ServiceKey.parse(name)): name for name in (cluster.services if cluster is not None else ())}
    for name, want in sorted(intended.items()):
        state = observed.nginx.get(name)
        if state is None:
            continue
        errors = {r.upstream: r.error for r in state.refusals if r.kind == "upstream"}
        for upstream in sorted(want.missing):
            text = f"{name} serves it as before: {errors.get(upstream, 'refused')}"
            yield Condition(type="NginxLoaded", status=False, reason="Refused", message=text, service=keys.get(upstream))
        for upstream, why in sorted(want.unwritable.items()):
            text = f"{name} leaves it out: {why}"
            yield Condition(type="NginxLoaded", status=False, reason="UnsafeValue", message=text, service=keys.get(upstream))
        for upstream, port in sorted(want.silent):
            text = f"127.0.0.1:{port} of {name} is in use, so it does not listen there for this service"
            yield Condition(type="Warning", status=True, reason="PortInUse", message=text, service=keys.get(upstream))
        if state.refused is not None and not want.loaded_by(state):
            yield Condition(type="NginxLoaded", status=False, reason="Refused", message=f"{name}: {state.error}")
    for found, why in stuck_sidecars(desired, cluster, observed, intended) if cluster is not None else ():
        text = f"{found.instance.sidecar} cannot reload and is replaced with its application: {why}"
        service = str(found.instance.service)
        yield Condition(type="NginxLoaded", status=False, reason=SIDECAR_STUCK, message=text, service=service)


def _masks(
    desired: Desired, cluster: ClusterState | None, observed: Observed, intended: Mapping[str, Intended], elapsed: Elapsed
) -> Iterable[Condition]:
    """Backends that this server's nginxes pass over, once that has lasted: a short absence is not worth a push."""
    keys = {upstream_name(ServiceKey.parse(name)): name for name in (cluster.services if cluster is not None else ())}
    servers = {entry.address: entry.name for entry in desired.servers.values() if entry.address is not None}
    for upstream, address in sorted({found for want in intended.values() for found in want.masked}):
        if elapsed.of(facts.dead(address)) < TOLD_AFTER or upstream not in keys:
            continue
        server = servers.get(address.rpartition(":")[0], observed.server)
        text = f"{address} on {server} gets no requests from here while another backend answers: {observed.dead[address]}"
        yield Condition(type="BackendMasked", status=True, reason="NoAnswer", message=text, service=keys[upstream])


def _unsettled(cluster: ClusterState) -> Iterable[str]:
    for name, state in cluster.services.items():
        rollout = state.rollout
        if state.held:
            yield f"{name}: {state.held}"
        elif rollout is not None and rollout.phase not in ("done", "aborted"):
            yield f"{name}: {rollout.phase} {rollout.id}" + (f", {rollout.reason}" if rollout.reason else "")


def _own_part(cluster: ClusterState, server: str, serving: Serving | None) -> Iterable[str]:
    """Among several members, what this one has still to do: the rest stands in the decision, and not in everybody's report too."""
    if server not in cluster.members:
        yield "not a member yet"
    for name, state in cluster.services.items():
        rollout = state.rollout
        if rollout is None or rollout.phase in ("done", "aborted"):
            continue
        staged = any(b.server == server and b.role == "staged" for b in state.backends)
        behind = serving is None or serving.epoch != cluster.epoch or serving.generation < (rollout.switched_at or 0)
        if staged or rollout.replacing == server or (rollout.phase == "switching" and behind):
            yield f"{name}: {rollout.phase} {rollout.id}"
