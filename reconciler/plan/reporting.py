"""What this server says of itself: `report(...)` makes the report from what is decided and observed (DESIGN section 5).

A report holds no timestamps and nothing that changes by itself, so that a steady state pushes nothing (I10).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from reconciler.model.cluster import Backend, ClusterState, ServiceState
from reconciler.model.desired import Desired
from reconciler.model.identity import InstanceKey, ServiceKey
from reconciler.model.observed import Container, Elapsed, Observed
from reconciler.model.report import Condition, InstancePhase, InstanceReport, Report, Seen, Serving
from reconciler.model.site import Site
from reconciler.plan import facts
from reconciler.plan.conditions import conditions, stuck_sidecars
from reconciler.plan.nginxes import Intended, lacking
from reconciler.plan.outages import ended_with_the_machine, starts_anew
from reconciler.plan.outgoing import in_the_way, outgoing
from reconciler.plan.upstreams import upstream_name
from reconciler.plan.wanted import Wanted, newcomer, preparing, wanted

TELLING_FAILURES = 5
"""Failed probes in a row after which a waiting gate's last failure is worth a word in the report."""


def report(
    desired: Desired,
    cluster: ClusterState | None,
    observed: Observed,
    site: Site,
    intended: Mapping[str, Intended],
    previous: Report | None,
    *,
    identity: str,
    program: str,
    elapsed: Elapsed,
    verified_ms: float | None = None,
    troubles: tuple[Condition, ...] = (),
    retry: tuple[str, ...] = (),
) -> Report:
    """Make the report. `identity` is this machine's random one; `troubles` are what the engine met carrying out actions.

    retry: what `step.retry_wish` made of a person's request.
    """
    seen = Seen(config=desired.revision.sha, epoch=cluster.epoch, generation=cluster.generation) if cluster else None
    serving, retired = _serving(cluster, observed, intended, previous, verified_ms, elapsed)
    return Report(
        server=site.server,
        instance=identity,
        program=program,
        address=site.address or (previous.address if previous is not None else None),
        seen=seen,
        serving=serving,
        retired=retired,
        instances=tuple(_instances(desired, cluster, observed)),
        conditions=(*conditions(desired, cluster, observed, site, intended, elapsed, serving), *troubles),
        refresh=tuple(_refresh(desired, cluster, observed, intended)),
        retry=retry,
    )


def _serving(
    cluster: ClusterState | None,
    observed: Observed,
    intended: Mapping[str, Intended],
    previous: Report | None,
    verified_ms: float | None,
    elapsed: Elapsed,
) -> tuple[Serving | None, int | None]:
    before = previous.serving if previous else None
    retired = previous.retired if previous else None
    if cluster is None:
        return before, retired
    if before is not None and before.epoch != cluster.epoch:
        retired = None  # generations of another epoch say nothing about this one
    lacks = lacking(intended, observed)
    if lacks is None or _begins_with_older_routes(cluster, observed):
        return before, retired
    without = tuple(sorted(name for name in cluster.services if upstream_name(ServiceKey.parse(name)) in lacks))
    same = before is not None and (before.epoch, before.generation) == (cluster.epoch, cluster.generation)
    if before is not None and same and before.without == without:
        serving = before
    else:
        serving = Serving(epoch=cluster.epoch, generation=cluster.generation, verified_ms=verified_ms, without=without)
    if not facts.routing_workers(observed, elapsed):
        retired = cluster.generation
    return serving, retired


def _begins_with_older_routes(cluster: ClusterState, observed: Observed) -> bool:
    """Whether something live is being brought back: its sidecar comes up with the routes of when that began, and is seen only then.

    One that is paused goes on with those that it had.
    """
    paused = {c.instance.name for c in observed.containers if c.status == "paused" and c.labels.role == "sidecar" and c.instance}
    if not paused and not observed.starting:
        return False
    here = (
        ServiceKey.parse(name).instance(backend.slot, backend.replica)
        for name, state in cluster.services.items()
        for backend in state.backends
        if backend.role == "live" and backend.server == observed.server
    )
    return any(each.name in paused or not observed.starting.isdisjoint((each.name, each.sidecar)) for each in here)


def _instances(desired: Desired, cluster: ClusterState | None, observed: Observed) -> Iterable[InstanceReport]:
    if cluster is None or newcomer(desired, cluster, observed.server):
        yield from _found(observed)
        return
    listed: dict[InstanceKey, Wanted] = {want.instance: want for want in wanted(desired, cluster, observed)}
    unproven = {each.instance for each in outgoing(cluster, observed) if not each.lived}
    asked = {key: (state, reference) for key, state, reference, _ in preparing(desired, cluster, observed.server)}
    for instance in sorted({*listed, *(c.instance for c in observed.containers if c.instance is not None)}):
        want = listed.get(instance)
        application = observed.of(instance) or observed.of(instance, "sidecar")
        if want is not None and want.backend.role == "live" and instance.service in asked:
            yield _prepared(want.backend, *asked[instance.service], observed, instance)
        elif want is not None and want.gated:
            yield _gated(want, application, observed)
        elif want is not None:
            yield _live(want, application, observed)
        elif application is not None:
            yield _ending(instance, application, unproven)


def _found(observed: Observed) -> Iterable[InstanceReport]:
    """Without any decision, or before it knows this server: what runs, each service's oldest first."""
    for container in sorted(observed.containers, key=lambda c: (c.created, c.name)):
        instance = container.instance
        if instance is None or container.labels.role != "application" or not container.running:
            continue
        owner = container.namespace_of
        gate = observed.gates.get(container.id)
        whole = owner is None or any(c.id == owner and c.running for c in observed.containers)
        phase: InstancePhase = "live" if whole else "failed"
        if whole and gate is not None and gate.state != "passed":
            phase = "failed" if gate.state == "failed" else "starting"
        yield InstanceReport(
            service=str(instance.service),
            replica=instance.replica,
            slot=instance.slot,
            spec=container.labels.spec,
            port=_port(container, instance),
            rollout=container.labels.rollout or None,
            revision=container.labels.revision or None,
            phase=phase,
            image=container.image_id or None,
        )


def _gated(want: Wanted, application: Container | None, observed: Observed) -> InstanceReport:
    rollout = want.rollout_label
    base = _base(want.instance, want.backend.spec, rollout)
    ours = application is not None and application.labels.spec == want.backend.spec and application.labels.rollout == rollout
    missing = observed.missing(want.instance.service, want.backend.spec)
    if in_the_way(want.state, want.backend, application):
        return base.model_copy(update={"phase": "waiting", "reason": "what was there before is still draining"})
    if not ours and missing:
        why = f"secrets are missing on this server: {', '.join(missing)}"
        return base.model_copy(update={"phase": "waiting", "reason": why})
    error = observed.start_errors.get(want.instance.name)
    if error is not None and (application is None or not application.running):
        return base.model_copy(update={"phase": "waiting" if error[1] else "failed", "reason": error[0]})
    if not ours or application is None:
        return _image_phase(base, want.image, observed, want.instance.service, want.state)
    if starts_anew(want, application, observed):
        return base.model_copy(update={"phase": "starting", "reason": f"{_ended(application)}, with the machine; started again"})
    gate = observed.gates.get(application.id)
    update: dict[str, object] = {"port": _port(application, want.instance), "image": _image(want, application, observed)}
    known = observed.images.get(want.image)
    if want.pinned and (known is None or known.image is None or known.image.id != application.image_id):
        # Others have recorded which bytes are to run, and these are not known to be those.
        return _image_phase(base, want.image, observed, want.instance.service, want.state)
    if gate is None or gate.state == "waiting":
        # The first refusals are an application that is starting: nothing to tell anybody, let alone to push.
        told = gate is not None and gate.failures >= TELLING_FAILURES
        update |= {"phase": "starting", "reason": gate.error if gate is not None and told else None}
    elif gate.state == "failed":
        passing = ended_with_the_machine(application, observed)
        update |= {"phase": "failed", "reason": gate.error or "health check failed", "log": gate.log, "transient": passing}
    elif not application.running:
        passing = ended_with_the_machine(application, observed)
        why = f"healthy, then {application.status}"
        update |= {"phase": "failed", "reason": why, "after_s": round(gate.after, 1), "transient": passing}
    else:
        update |= {"phase": "ready", "after_s": round(gate.after, 1)}
    return base.model_copy(update=update)


def _image_phase(base: InstanceReport, reference: str, observed: Observed, key: ServiceKey, state: ServiceState) -> InstanceReport:
    image = observed.images.get(reference)
    earlier = image is not None and facts.other_attempt(image, facts.attempt(key, state.rollout))
    if image is not None and image.status == "failed" and not earlier:
        if image.transient:
            return base.model_copy(update={"phase": "waiting", "reason": image.error})
        return base.model_copy(update={"phase": "failed", "reason": image.error, "log": image.log})
    if image is not None and image.status == "preparing" and image.error is not None and not earlier:
        return base.model_copy(update={"phase": "waiting", "reason": image.error})  # tried again: not told anew each time
    return base.model_copy(update={"phase": "preparing"})


def _prepared(backend: Backend, state: ServiceState, reference: str, observed: Observed, instance: InstanceKey) -> InstanceReport:
    """The vote of a recreate's staging: the image is there."""
    rollout = state.rollout
    base = _base(instance, rollout.target if rollout else backend.spec, rollout.id if rollout else "")
    image = observed.images.get(reference)
    missing = observed.missing(instance.service, rollout.target if rollout else backend.spec)
    if missing:
        why = f"secrets are missing on this server: {', '.join(missing)}"
        return base.model_copy(update={"phase": "waiting", "reason": why})
    attempt = facts.attempt(instance.service, rollout) if rollout is None or not rollout.image else ""
    if facts.settled_image(image, attempt) and image is not None and image.image is not None:
        return base.model_copy(update={"phase": "ready", "image": image.image.reference})
    return _image_phase(base, reference, observed, instance.service, state)


def _live(want: Wanted, application: Container | None, observed: Observed) -> InstanceReport:
    base = _base(want.instance, want.backend.spec, application.labels.rollout if application is not None else None)
    if application is None:
        missing = observed.missing(want.instance.service, want.backend.spec)
        why = f"secrets are missing on this server: {', '.join(missing)}" if missing else "not running; being restored"
        if want.instance.name in observed.start_errors:
            why = observed.start_errors[want.instance.name][0]
        if want.service is None:
            why = f"not running, and its config at {want.revision[:7]} cannot be read"
        return base.model_copy(update={"phase": "stalled" if missing or want.service is None else "starting", "reason": why})
    live = want.state.live
    known = live.image if live is not None and live.spec == want.backend.spec else None
    base = base.model_copy(
        update={"port": _port(application, want.instance), "image": known or _image(want, application, observed)}
    )
    if want.soaking and application.status != "created":
        return _soaking(base, application, observed)
    if not application.running:
        return base.model_copy(update={"phase": "starting", "reason": _ended(application)})
    return base.model_copy(update={"phase": "kept" if want.backend.role == "kept" else "live"})


def _soaking(base: InstanceReport, application: Container, observed: Observed) -> InstanceReport:
    """One that has the traffic of a rolling rollout: `failed` stops the line, anything but `live` holds it up."""
    gate = observed.gates.get(application.id)
    if not application.running and not ended_with_the_machine(application, observed):
        log = gate.log if gate is not None else ()
        return base.model_copy(update={"phase": "failed", "reason": f"switched, then {_ended(application)}", "log": log})
    if not application.running:
        return base.model_copy(update={"phase": "starting", "reason": _ended(application)})
    if gate is not None and gate.state == "failed":
        why = f"switched, then unhealthy: {gate.error or 'health check failed'}"
        return base.model_copy(update={"phase": "failed", "reason": why, "log": gate.log})
    return base.model_copy(update={"phase": "live" if gate is not None and gate.state == "passed" else "starting"})


def _ended(application: Container) -> str:
    return f"{application.status}" + (f" with code {application.exit_code}" if application.status == "exited" else "")


def _ending(instance: InstanceKey, container: Container, unproven: Collection[InstanceKey]) -> InstanceReport:
    update: dict[str, object] = {"phase": "draining", "port": _port(container, instance)}
    if instance in unproven:
        # It may never have been healthy, so a rebuild must not take it for one that had the traffic. Nor is it a vote: after a
        # rebuild from an older copy, a rollout may get an identity that one before it had.
        update |= {"phase": "failed", "reason": "not in the decision; being removed", "rollout": None}
    return _base(instance, container.labels.spec, container.labels.rollout or None).model_copy(update=update)


def _base(instance: InstanceKey, spec: str, rollout: str | None) -> InstanceReport:
    return InstanceReport(
        service=str(instance.service),
        replica=instance.replica,
        slot=instance.slot,
        spec=spec,
        rollout=rollout or None,
        phase="preparing",
    )


def _image(want: Wanted, application: Container, observed: Observed) -> str | None:
    state = observed.images.get(want.image)
    if state is not None and state.image is not None and state.image.id == application.image_id:
        return state.image.reference
    return application.image_id or None


def _port(container: Container, instance: InstanceKey) -> int | None:
    if container.labels.ports is None:
        return None
    return container.labels.ports[0] if instance.slot == "primary" else container.labels.ports[1]


def _refresh(desired: Desired, cluster: ClusterState | None, observed: Observed, intended: Mapping[str, Intended]) -> Iterable[str]:
    """Services whose live instances here were started with other contents of secrets than there are now, or whose sidecar cannot
    reload: a one-server rollout replaces them, make before break."""
    if cluster is None:
        return
    found = {str(want.instance.service) for want, _ in stuck_sidecars(desired, cluster, observed, intended)}
    for want in wanted(desired, cluster, observed):
        key, spec = want.instance.service, want.backend.spec
        application = observed.of(want.instance)
        if want.backend.role != "live" or want.gated or application is None or observed.missing(key, spec):
            continue
        now = observed.local(key, spec)
        if now is not None and application.labels.local != now:
            found.add(str(key))
    yield from sorted(found)
