"""Wrong rules, to see the invariants bite: each wraps a rule of the product, or of the world, and bends one thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from reconciler.engine.following import Copy, Followed, choose
from reconciler.model.action import Action, Reload
from reconciler.model.cluster import ClusterState, Rollout, ServiceState
from reconciler.model.desired import Desired, DesiredService
from reconciler.model.observed import Elapsed, Observed
from reconciler.model.report import InstanceReport, Report
from reconciler.model.routes import NginxConfig
from reconciler.plan.decide import Decision, decide
from reconciler.plan.planner import plan
from reconciler.plan.reporting import report
from reconciler.render.nginx import Rendered
from tests.simulation.rules import Rules, rendered

Reports = Mapping[str, Report]


# What is changed in the arguments or the result of a rule


def _deciding(
    desired: Callable[[Desired], Desired] | None = None,
    cluster: Callable[[ClusterState], ClusterState] | None = None,
    reports: Callable[[ClusterState, Reports, str], Reports] | None = None,
    elapsed: Callable[[Elapsed], Elapsed] | None = None,
    result: Callable[[ClusterState], ClusterState] | None = None,
) -> Rules:
    """`decide` with other arguments, or with another result."""

    def bent(want: Desired, known: ClusterState | None, told: Reports, since: Elapsed, **given: Any) -> Decision:
        if known is None:
            return decide(want, known, told, since, **given)
        made = decide(
            desired(want) if desired is not None else want,
            cluster(known) if cluster is not None else known,
            reports(known, told, given["decider"].server) if reports is not None else told,
            elapsed(since) if elapsed is not None else since,
            **given,
        )
        if cluster is not None:
            # What is bent is said, so that it is not found by its silence.
            if not made.reasons:
                return Decision(known, ())
            made = replace(made, reasons=(*made.reasons, *(f"{name} bent" for name in known.services)))
        return replace(made, cluster=result(made.cluster)) if result is not None and made.reasons else made

    return Rules(decide=bent)


def _each_report(change: Callable[[ClusterState, Report], Report]) -> Callable[[ClusterState, Reports, str], Reports]:
    return lambda cluster, reports, _: {name: change(cluster, told) for name, told in reports.items()}


def _each_rollout(change: Callable[[ServiceState, Rollout], ServiceState]) -> Callable[[ClusterState], ClusterState]:
    def changed(cluster: ClusterState) -> ClusterState:
        services = {n: change(s, s.rollout) if s.rollout is not None else s for n, s in cluster.services.items()}
        return cluster.model_copy(update={"services": services})

    return changed


def _reporting(change: Callable[..., Report]) -> Rules:
    """`report` with another result."""

    @wraps(report)
    def bent(*arguments: Any, **given: Any) -> Report:
        return change(report(*arguments, **given), *arguments)

    return Rules(report=bent)


def _entries(made: Report, change: Callable[[InstanceReport], InstanceReport]) -> Report:
    return made.model_copy(update={"instances": tuple(map(change, made.instances))})


# The decision


def _drains_at_once(state: ServiceState, rollout: Rollout) -> ServiceState:
    if rollout.phase != "switching":
        return state
    kept = tuple(b for b in state.backends if b.role != "draining")
    return state.model_copy(update={"backends": kept, "rollout": rollout.model_copy(update={"phase": "done"})})


def _own_word(cluster: ClusterState, reports: Reports, server: str) -> Reports:
    own = reports[server]
    return {n: r.model_copy(update={"serving": own.serving, "retired": own.retired}) for n, r in reports.items()}


def _any_epoch(cluster: ClusterState, told: Report) -> Report:
    seen = told.seen and told.seen.model_copy(update={"epoch": cluster.epoch})
    serving = told.serving and told.serving.model_copy(update={"epoch": cluster.epoch})
    return told.model_copy(update={"seen": seen, "serving": serving})


def _any_bytes(cluster: ClusterState, told: Report) -> Report:
    return _entries(told, lambda entry: entry.model_copy(update={"image": None}))


def _drained(desired: Desired) -> Desired:
    servers = {name: entry.model_copy(update={"state": "drained"}) for name, entry in desired.servers.items()}
    return desired.model_copy(update={"servers": servers})


def _line(**settings: Any) -> Callable[[Desired], Desired]:
    """Other settings of rolling rollouts than the config's."""

    def bent(service: DesiredService) -> DesiredService:
        return service.model_copy(update={"rolling": service.rolling.model_copy(update=settings)})

    return lambda desired: desired.model_copy(update={"services": {key: bent(s) for key, s in desired.services.items()}})


def _retired(cluster: ClusterState, told: Report) -> Report:
    return told.model_copy(update={"retired": cluster.generation, "serving": told.serving})


def _any_vote(cluster: ClusterState, told: Report) -> Report:
    def relabelled(entry: InstanceReport) -> InstanceReport:
        state = cluster.services.get(entry.service)
        if state is None or state.rollout is None:
            return entry
        return entry.model_copy(update={"rollout": state.rollout.id, "spec": state.rollout.target})

    return _entries(told, relabelled)


def _forgetting(state: ServiceState, rollout: Rollout) -> ServiceState:
    """What drains is not listed any more once nobody routes to it: its slot looks free."""
    if rollout.phase != "draining" or rollout.strategy == "remove":
        return state
    kept = tuple(b for b in state.backends if b.role != "draining")
    return state.model_copy(update={"backends": kept, "rollout": rollout.model_copy(update={"phase": "done"})})


def _excusing(desired: Desired, cluster: ClusterState | None, reports: Reports, elapsed: Elapsed, **given: Any) -> Decision:
    """A member whose report is lost is not waited for."""
    if cluster is None:
        return decide(desired, cluster, reports, elapsed, **given)
    heard = tuple(m for m in cluster.members if m in reports)
    made = decide(desired, cluster.model_copy(update={"members": heard}), reports, elapsed, **given)
    members = tuple(sorted({*made.cluster.members, *(m for m in cluster.members if m in desired.servers)}))
    return replace(made, cluster=made.cluster.model_copy(update={"members": members}))


def _long_ago(elapsed: Elapsed) -> Elapsed:
    return Elapsed.model_construct(seconds={fact: since + 1000.0 for fact, since in elapsed.seconds.items()})


def _majority(cluster: ClusterState, reports: Reports, server: str) -> Reports:
    """One server's failure does not count."""

    def ready(entry: InstanceReport) -> InstanceReport:
        return entry.model_copy(update={"phase": "ready"}) if entry.phase in ("failed", "starting") else entry

    unlucky = max(reports)
    return {name: _entries(told, ready) if name == unlucky else told for name, told in reports.items()}


def _again(state: ServiceState, rollout: Rollout) -> ServiceState:
    return state.model_copy(update={"rejected": None})


# Reports


def _eager(made: Report, *_: object) -> Report:
    return _entries(made, lambda e: e.model_copy(update={"phase": "ready"}) if e.phase == "starting" else e)


def _forgetful(made: Report, *_: object) -> Report:
    return made.model_copy(update={"retired": made.serving.generation if made.serving is not None else None})


def _hopeful(made: Report, desired: Desired, cluster: ClusterState | None, *_: object) -> Report:
    """Whatever runs is taken for what had the traffic."""
    if cluster is not None:
        return made
    return _entries(made, lambda e: e.model_copy(update={"phase": "live"}) if e.phase in ("starting", "failed") else e)


def _unverified(desired: Desired, cluster: ClusterState | None, observed: Observed, *rest: Any, **given: Any) -> Report:
    """Told to load is as good as loaded."""
    intended = rest[1]
    loaded = {
        name: state.model_copy(update={"loaded": intended[name].fingerprint, "refused": None}) if name in intended else state
        for name, state in observed.nginx.items()
    }
    return report(desired, cluster, observed.model_copy(update={"nginx": loaded}), *rest, **given)


# The plan


def _planning(change: Callable[[ClusterState, Observed], tuple[ClusterState, Observed]]) -> Rules:
    def bent(desired: Desired, cluster: ClusterState, observed: Observed, *rest: Any) -> tuple[Action, ...]:
        return plan(desired, *change(cluster, observed), *rest)

    return Rules(plan=bent)


def _without_draining(cluster: ClusterState, observed: Observed) -> tuple[ClusterState, Observed]:
    services = {
        name: state.model_copy(update={"backends": tuple(b for b in state.backends if b.role != "draining")})
        for name, state in cluster.services.items()
    }
    return cluster.model_copy(update={"services": services}), observed


def _uncounted(cluster: ClusterState, observed: Observed) -> tuple[ClusterState, Observed]:
    return cluster, observed.model_copy(update={"connections": dict.fromkeys(observed.connections, 0)})


def _as_a_member(cluster: ClusterState, observed: Observed) -> tuple[ClusterState, Observed]:
    members = tuple(sorted({*cluster.members, observed.server}))
    return cluster.model_copy(update={"members": members}), observed


def _always_reloading(desired: Desired, cluster: ClusterState, observed: Observed, *rest: Any) -> tuple[Action, ...]:
    actions, intended = plan(desired, cluster, observed, *rest), rest[2]
    running = tuple(want.config for name, want in sorted(intended.items()) if name in observed.nginx)
    others = (a for a in actions if not isinstance(a, Reload))
    return (*others, *((Reload(configs=running, cause="to be sure"),) if running else ()))


def _no_fallback(config: NginxConfig) -> Rendered:
    upstreams = (u.model_copy(update={"peers": tuple(p for p in u.peers if not p.backup)}) for u in config.upstreams)
    return rendered(config.model_copy(update={"upstreams": tuple(upstreams)}))


# Following


def _never_ours(
    found: ClusterState | None, damage: str | None, oid: str | None, own: Copy | None, *, server: str, epoch: str, **more: Any
) -> Followed:
    """A push whose outcome is unknown was not applied, so what is there now is somebody else's doing."""
    if own is not None and found is not None and own.based_on != oid and found.decided_by.server == server:
        rebuilt = own.cluster.model_copy(update={"epoch": epoch, "generation": own.cluster.generation + 1})
        return Followed(rebuilt, oid, ("rebuilt",), notice="this was not pushed by anybody")
    return choose(found, damage, oid, own, server=server, epoch=epoch, **more)


def _stubborn(
    found: ClusterState | None, damage: str | None, oid: str | None, own: Copy | None, *, server: str, epoch: str, **more: Any
) -> Followed:
    """What this server has not told yet goes before what the others have decided since."""
    if own is not None and own.reasons and found is not None:
        return Followed(own.cluster, oid, own.reasons)
    return choose(found, damage, oid, own, server=server, epoch=epoch, **more)


MUTATIONS: Mapping[str, Rules] = {
    "skip the barrier": _deciding(result=_each_rollout(_drains_at_once)),
    "the own acknowledgement is enough": _deciding(reports=_own_word),
    "acknowledge before verifying": Rules(report=_unverified),
    "acknowledge before the old workers are gone": _reporting(_forgetful),
    "publish before healthy": _reporting(_eager),
    "a plain push": Rules(compares=False),
    "a failed push was not applied": Rules(choose=_never_ours),
    "start into a slot that still drains": _deciding(cluster=_each_rollout(_forgetting)),
    "start into a slot that a stale member lists as live": _deciding(reports=_each_report(_retired)),
    "forget the fallback": Rules(render=_no_fallback),
    "a lost report excuses its server": Rules(decide=_excusing),
    "generations without an epoch": _deciding(reports=_each_report(_any_epoch)),
    "votes without the rollout's identity": _deciding(reports=_each_report(_any_vote)),
    "two writers of one report": Rules(check_name=lambda *_: None),
    "a silent member is not waited for at all": _deciding(elapsed=_long_ago),
    "every server is waited for as if it were drained": _deciding(desired=_drained),
    "one server's failure does not count": _deciding(reports=_majority),
    "a rejected version is tried again": _deciding(result=_each_rollout(_again)),
    "the planner removes what drains at once": _planning(_without_draining),
    "connections are not counted": _planning(_uncounted),
    "a newcomer acts before it is a member": _planning(_as_a_member),
    "reload without looking": Rules(plan=_always_reloading),
    "decide ahead of the remote among several": Rules(sole=lambda server, own: own is not None),
    "anybody decides, members or not, with any program and view": Rules(may_decide=lambda *_, **__: True),
    "what was not told goes before what others decided": Rules(choose=_stubborn),
    "after a loss it is decided before it is known what is healthy": Rules(unsettled=lambda reports: ()),
    "what never passed its gate is live after a loss": _reporting(_hopeful),
    "a line: the next server before the first has soaked": _deciding(desired=_line(soak=0.0)),
    "a line: more servers at a time than max_parallel": _deciding(desired=_line(max_parallel=12)),
    "a line: nothing is taken back": _deciding(desired=_line(on_failure="abort_local")),
    "each server resolves a tag for itself": _deciding(reports=_each_report(_any_bytes)),
}
"""What is wrong -> the rules with it."""
