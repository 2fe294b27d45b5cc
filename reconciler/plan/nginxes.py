"""Actions for this server's nginxes: the edge, the host listener, and one reload for everything that differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.model.action import Action, ConnectNetwork, EnsureNetwork, Reload, RemoveInstance, StartNginx
from reconciler.model.cluster import ClusterState
from reconciler.model.container import ContainerPlan
from reconciler.model.desired import Desired
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Container, Elapsed, NginxState, Observed
from reconciler.model.routes import NginxConfig
from reconciler.model.site import Site
from reconciler.plan import containers, facts
from reconciler.plan.addresses import edge_address, subnet_for
from reconciler.plan.routes import edge_config, edge_routes, host_config, host_listens, sidecar_config
from reconciler.plan.upstreams import Reachable

SIDECAR_TRIES = 3
"""Refusals in a row (at 0, 10 and 30 s) after which a sidecar counts as one that cannot reload: it is replaced with its pair."""


@dataclass(frozen=True)
class Intended:
    """A configuration and the fingerprint of its text, as `render` computed it.

    `equivalent`: the fingerprint of the text as it is while every live instance runs. An instance that is down is written by its
    address, as its name does not resolve; an nginx that has the name loaded resolved it to that same address long ago, so that an
    instance's way down and up again needs no reload. `missing`: upstreams that the text leaves as they were loaded, as this nginx
    refused what they should be. `accepted`: other texts that do what the decision says, and the upstreams that each of them lacks.
    `unwritable`: upstreams that are left out, with the reason, as the renderer refuses their values. `silent`: (upstream, port) of
    listeners that are left out, as nginx could not have the port. `masked`: (upstream, address) of backends that it passes over.
    """

    config: NginxConfig
    fingerprint: str
    equivalent: str | None = None
    missing: frozenset[str] = frozenset()
    accepted: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unwritable: Mapping[str, str] = field(default_factory=dict)
    silent: frozenset[tuple[str, int]] = frozenset()
    masked: frozenset[tuple[str, str]] = frozenset()

    def loaded_by(self, state: NginxState) -> bool:
        """Whether an nginx has this text, or one that is as good, and nothing is to be reloaded."""
        return _verified(state) and state.loaded in (self.fingerprint, self.equivalent)

    def lacking(self, state: NginxState) -> frozenset[str] | None:
        """The upstreams that an nginx does not serve as the decision says; None when it serves something else altogether."""
        if not _verified(state):
            return None
        if state.loaded in (self.fingerprint, self.equivalent):
            return self.missing | frozenset(self.unwritable)
        return self.accepted.get(state.loaded or "")


def _verified(state: NginxState) -> bool:
    """A text that was loaded while old workers went on accepting connections is not what is served."""
    return state.loaded is not None and state.loaded != state.refused


def stuck(want: Intended, state: NginxState) -> str | None:
    """Why a sidecar counts as one that cannot reload; None while it does not."""
    if want.config.kind != "sidecar":
        return None
    if not want.loaded_by(state) and state.tries >= SIDECAR_TRIES:
        return state.error or "it does not answer"
    refusals = (r for r in state.refusals if r.upstream in want.missing and r.kind == "upstream" and r.tries >= SIDECAR_TRIES)
    return next((refusal.error for refusal in refusals), None)


def configs(
    desired: Desired, cluster: ClusterState, observed: Observed, site: Site, *, assume_up: bool = False
) -> dict[str, NginxConfig]:
    """What every nginx of this server should have loaded, by container name. Sidecars: those that exist."""
    found = {}
    reach = Reachable(desired, cluster, observed, assume_up)
    for config in (edge_config(reach, site), host_config(reach, site)):
        if config is not None:
            found[config.name] = config
    for container in observed.containers:
        instance: InstanceKey | None = container.instance
        if instance is None or container.labels.role != "sidecar" or not container.running:
            continue
        service = desired.service_at(instance.service, container.labels.spec)
        if service is not None and service.spec.sidecar:
            found[container.name] = sidecar_config(reach, site, instance, service)
    return found


def nginx_containers(
    desired: Desired, cluster: ClusterState, observed: Observed, site: Site, networks: dict[str, str]
) -> list[Action]:
    """Create, replace or remove the edge and the host listener, and join the edge to the networks that it routes to.

    networks: those that exist or are made in this pass (name -> subnet); what the edge needs besides is made and added.
    """
    actions: list[Action] = []
    reach = Reachable(desired, cluster, observed)
    actions.extend(_edge(reach, site, public_networks(desired, cluster), networks))
    host = containers.host_listener(site) if host_listens(reach, site) else None
    actions.extend(_ensure(host, lambda: host_config(reach, site), (), observed))
    return actions


def reload(intended: Mapping[str, Intended], observed: Observed, elapsed: Elapsed) -> list[Action]:
    """At most one: every running nginx whose loaded text is not the intended one.

    A text that was refused is tried again after 10 s, 20 s, ... 300 s.
    """
    stale = []
    for name, wanted in sorted(intended.items()):
        state = observed.nginx.get(name)
        if state is None or wanted.loaded_by(state):
            continue
        if state.refused == wanted.fingerprint and elapsed.of(facts.refused(state)) < facts.retry_delay(state.tries):
            continue
        stale.append(wanted.config)
    if not stale:
        return []
    names = ", ".join(config.name for config in stale)
    return [Reload(configs=tuple(stale), cause=f"routes changed for {names}")]


def lacking(intended: Mapping[str, Intended], observed: Observed) -> frozenset[str] | None:
    """The upstreams that some nginx of this server refused, so that it serves them as they were before.

    None: some nginx that should run has not loaded what is intended at all, or one runs that should not. Sidecars that are gone are
    healed with their pair, and one that cannot reload is replaced with it. An nginx that cannot be started routes nobody anywhere:
    its port may be a stranger's for days, and no rollout waits for that.
    """
    for container in observed.containers:
        if container.labels.role in ("edge", "host") and container.running and container.name not in intended:
            return None
    found: set[str] = set()
    for name, want in intended.items():
        state = observed.nginx.get(name)
        if state is None and (want.config.kind == "sidecar" or name in observed.start_errors):
            continue
        if state is not None and stuck(want, state) is not None:
            continue
        lacks = want.lacking(state) if state is not None else None
        if lacks is None:
            return None
        found |= lacks
    return frozenset(found)


def serves(intended: Mapping[str, Intended], observed: Observed) -> bool:
    """Whether every nginx of this server does all that is intended."""
    return lacking(intended, observed) == frozenset()


def public_networks(desired: Desired, cluster: ClusterState) -> frozenset[str]:
    """Project networks that the edge has to be on: those with something public."""
    found = set()
    for name, state in cluster.services.items():
        key = ServiceKey.parse(name)
        service = desired.service_at(key, state.live.spec) if state.live is not None else None
        service = service or desired.services.get(key)
        if service is not None and service.public:
            found.add(key.network)
    return frozenset(found)


def _edge(reach: Reachable, site: Site, needed: frozenset[str], networks: dict[str, str]) -> list[Action]:
    observed = reach.observed
    made: list[Action] = []
    for name in sorted(needed - networks.keys()):
        # Nothing of the project runs on this server, and its edge routes to it all the same.
        networks[name] = subnet_for(name, site.network_pool, networks)
        made.append(EnsureNetwork(name=name, subnet=networks[name], cause=f"{site.edge_name} routes to services on {name}"))
    present = sorted(needed)
    home = present[0] if present else ""
    found = _of_role(observed, "edge")
    plan = containers.edge(site, home, edge_address(networks[home])) if edge_routes(reach) else None
    others = tuple((name, edge_address(networks[name])) for name in present if name != home)
    actions = _ensure(plan, lambda: edge_config(reach, site), others, observed, role="edge")
    if actions or found is None or plan is None:
        return [*made, *actions]
    joins: list[Action] = [
        ConnectNetwork(container=found.name, network=name, address=address, cause=f"{found.name} routes to services on {name}")
        for name, address in ((home, edge_address(networks[home])), *others)
        if name not in found.networks
    ]
    return [*made, *joins]


def _ensure(
    plan: ContainerPlan | None,
    configured: Callable[[], NginxConfig | None],
    networks: tuple[tuple[str, str], ...],
    observed: Observed,
    role: str = "host",
) -> list[Action]:
    """`configured`: what it is started with, worked out only when it is started: a pass that finds nothing to do needs none."""
    found = _of_role(observed, role)
    if plan is None:
        if found is None:
            return []
        return [
            RemoveInstance(name=found.name, ids=(found.id,), nginx=found.name, grace=10.0, cause="nothing is routed here any more")
        ]
    if found is None and plan.name in observed.foreign:
        return []  # a condition in the report says so
    if found is None:
        why = f"{plan.name} is missing"
    elif found.status in ("exited", "created", "dead", "paused"):
        why = f"{found.name} is {found.status}"
    elif found.labels.shape != plan.labels.shape:
        why = f"{found.name} was made from other settings"
    else:
        return []
    config = configured()
    assert config is not None, plan.name
    replaces = (found.id,) if found is not None else ()
    return [StartNginx(container=plan, config=config, networks=networks, replaces=replaces, cause=why)]


def _of_role(observed: Observed, role: str) -> Container | None:
    found = [c for c in observed.containers if c.labels.role == role]
    return min(found, key=lambda c: (not c.running, c.id), default=None)
