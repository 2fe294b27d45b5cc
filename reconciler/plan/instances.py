"""Actions that bring one wanted instance about, or back: an ordered ladder, first match wins."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.errors import Stalled
from reconciler.model.action import Action, EnsureNetwork, PrepareImage, RestoreContainer, StartContainer, StartInstance
from reconciler.model.container import ContainerPlan, Labels, Publish
from reconciler.model.desired import DesiredService
from reconciler.model.observed import Container, Observed
from reconciler.plan import containers, facts
from reconciler.plan.addresses import subnet_for
from reconciler.plan.allocations import Here, pair_of, ports_of
from reconciler.plan.outages import starts_anew
from reconciler.plan.outgoing import in_the_way
from reconciler.plan.routes import sidecar_config
from reconciler.plan.upstreams import Reachable
from reconciler.plan.votes import pinned
from reconciler.plan.wanted import Wanted, matches

HEAL_MOST = 60.0


def bring_about(here: Here, want: Wanted) -> list[Action]:
    """What to do now for one wanted instance; nothing when it is as it should be, waits or has failed its gate."""
    service, observed = want.service, here.observed
    if service is None or want.backend.server != observed.server:
        return []
    application = observed.of(want.instance)
    side = observed.of(want.instance, "sidecar")
    whole = application is not None and matches(want, application) and _paired(service, application, side)
    anew = starts_anew(want, application, observed)
    right = application is not None and (not want.pinned or _runs_the_image(want, application, observed))
    if whole and not anew and right and application is not None:
        return _as_it_should_run(here, want, service, application, side)
    if in_the_way(want.state, want.backend, application or side):
        # What an earlier switch left in this slot drains first (see `ending`); the image can be there by then.
        attempt = facts.attempt(want.instance.service, want.rollout)
        return image_action(here, want.image, want.build, _cause(want, None, None), attempt) or []
    # A gated instance that has failed waits for the decision; starting it again would only fail again. With other bytes than the
    # recorded ones it has said nothing about those.
    if not anew and right and application and want.gated and matches(want, application) and _failed(observed, application):
        return []
    if (anew or not want.gated) and not _may_heal(here, want):
        return []
    if observed.missing(want.instance.service, want.backend.spec):
        return []
    image = image_action(
        here,
        want.image,
        want.build,
        _cause(want, application, side),
        facts.attempt(want.instance.service, want.rollout) if want.gated else "",
    )
    if image is not None:
        return image
    present = observed.images[want.image].image
    reference = present.reference if present is not None else want.image
    return _start(here, want, service, reference, [c for c in (application, side) if c is not None])


def image_action(here: Here, reference: str, build: object, cause: str, attempt: str = "") -> list[Action] | None:
    """None when the image is there; else what to do for it now (nothing while it is being prepared or has just failed).

    attempt: the rollout that needs it (`facts.attempt`), if one does; what failed for another one is tried at once for this, and
    what a tag meant for another one is found out anew.
    """
    state = here.observed.images.get(reference)
    if facts.settled_image(state, "" if build is not None or pinned(reference) else attempt):
        return None
    if state is not None and state.status == "preparing":
        return []
    if state is not None and state.status == "failed":
        failed = here.elapsed.of(facts.image_failed(reference))
        pause = facts.retry_delay(state.failures) if state.transient else facts.RETRY_MOST
        if not facts.other_attempt(state, attempt) and failed < pause:
            return []
    return [PrepareImage.model_validate({"reference": reference, "build": build, "attempt": attempt, "cause": cause})]


def _as_it_should_run(
    here: Here, want: Wanted, service: DesiredService, application: Container, side: Container | None
) -> list[Action]:
    """The right containers are there: are they running, and unchanged?"""
    restored = _restored(here, want, service, application, side)
    if side is not None and side.status == "paused":
        why = f"{side.name} is paused"
        restored.append(StartContainer(id=side.id, name=side.name, paused=True, cause=why))
    if application.status == "running" or application.status == "restarting":
        return restored
    if _failed(here.observed, application) or (want.gated and application.status == "exited"):
        return []
    if not want.gated and not _may_heal(here, want):
        return []
    paused = application.status == "paused"
    why = f"{application.name} is {application.status}" + (
        f" with code {application.exit_code}" if application.status == "exited" else ""
    )
    if application.status in ("exited", "created", "paused"):
        return [*restored, StartContainer(id=application.id, name=application.name, paused=paused, cause=why)]
    image = image_action(here, want.image, want.build, why)
    if image is not None:
        return image
    present = here.observed.images[want.image].image
    broken = [c for c in (application, side) if c is not None]
    return _start(here, want, service, present.reference if present else want.image, broken)


def _restored(here: Here, want: Wanted, service: DesiredService, application: Container, side: Container | None) -> list[Action]:
    actions: list[Action] = []
    for container, role in ((application, "application"), (side, "sidecar")):
        if container is not None and container.drift:
            plan = _plans(here, want, service, container.image_id)[role]
            if plan is not None:
                why = f"{container.name} was changed by hand: {', '.join(container.drift)}"
                actions.append(RestoreContainer(id=container.id, plan=plan, drift=container.drift, cause=why))
    return actions


def _runs_the_image(want: Wanted, application: Container, observed: Observed) -> bool:
    """Whether a container behind its gate was made from the very image that the decision has recorded for its rollout."""
    known = observed.images.get(want.image)
    return known is not None and known.image is not None and known.image.id == application.image_id


def _paired(service: DesiredService, application: Container, side: Container | None) -> bool:
    """A pair is one namespace: the sidecar runs and the application was made in it."""
    if not service.spec.sidecar:
        return application.namespace_of is None
    if side is None or application.namespace_of != side.id:
        return False
    return side.status in ("running", "paused")


def _failed(observed: Observed, application: Container) -> bool:
    gate = observed.gates.get(application.id)
    return gate is not None and gate.state == "failed"


def _may_heal(here: Here, want: Wanted) -> bool:
    """At once the first time, then 1, 3, 7, ... at most 60 s after it went down again."""
    heals = here.observed.heals.get(want.instance.name, 0)
    wait = min(HEAL_MOST, float(2 ** min(heals, 10) - 1))
    return here.elapsed.of(facts.down(want.instance)) >= wait


def _cause(want: Wanted, application: Container | None, side: Container | None) -> str:
    if want.gated:
        return want.rollout.cause if want.rollout is not None else "staging"
    if application is None:
        return f"{want.instance.name} is missing"
    if application.labels.spec != want.backend.spec:
        return f"{want.instance.name} runs {application.labels.spec[:14]}, {want.backend.spec[:14]} is live"
    return f"the sidecar of {want.instance.name} is {side.status if side is not None else 'missing'}"


def _start(here: Here, want: Wanted, service: DesiredService, image: str, in_the_way: list[Container]) -> list[Action]:
    actions: list[Action] = []
    network = want.instance.service.network
    cause = _cause(want, *_by_role(in_the_way))
    _refuse_foreign(here, want, service)
    if network not in here.allocations.networks:
        subnet = subnet_for(network, here.site.network_pool, here.allocations.networks)
        here.allocations.networks[network] = subnet
        actions.append(EnsureNetwork(name=network, subnet=subnet, cause=cause))
    plans = _plans(here, want, service, image)
    application, side = plans["application"], plans["sidecar"]
    assert application is not None
    there = next((c for c in in_the_way if c.labels.role == "sidecar"), None)
    if there is not None and side is not None and _whole(here, want, there, side):
        # Its namespace, its address and the connections through it outlive the application (DESIGN section 4, Sidecar).
        in_the_way, side = [container for container in in_the_way if container is not there], None
    config = None
    if side is not None:
        config = sidecar_config(Reachable(here.desired, here.cluster, here.observed), here.site, want.instance, service)
    actions.append(
        StartInstance(
            instance=want.instance,
            application=application,
            sidecar=side,
            sidecar_config=config,
            replaces=tuple(container.id for container in in_the_way),
            grace=service.drain.grace,
            cause=cause,
        )
    )
    return actions


def _whole(here: Here, want: Wanted, side: Container, plan: ContainerPlan) -> bool:
    """Whether a sidecar is as it would be made now, runs, and its nginx answers: then an application can be put into it."""
    state = here.observed.nginx.get(side.name)
    if side.status != "running" or side.drift or state is None or state.loaded is None:
        return False
    if want.gated and side.labels.rollout != want.rollout_label:
        return False
    there, made = side.labels, plan.labels
    return (there.spec, there.addresses, there.ports, there.shape) == (made.spec, made.addresses, made.ports, made.shape)


def _refuse_foreign(here: Here, want: Wanted, service: DesiredService) -> None:
    names = (want.instance.name, want.instance.sidecar) if service.spec.sidecar else (want.instance.name,)
    for name in names:
        if name in here.observed.foreign:
            raise Stalled(
                f"{want.instance}: the container {name} is there and is not ours; rename or remove it", reason="ForeignContainer"
            )


def _by_role(found: list[Container]) -> tuple[Container | None, Container | None]:
    by_role = {container.labels.role: container for container in found}
    return by_role.get("application"), by_role.get("sidecar")


def _plans(here: Here, want: Wanted, service: DesiredService, image: str) -> Mapping[str, ContainerPlan | None]:
    key, replica = want.instance.service, want.instance.replica
    pair = pair_of(here, key, replica)
    ports = ports_of(here, key, replica, service) if service.spec.publish else None
    labels = Labels(
        server=here.site.server,
        role="application",
        service=key,
        replica=replica,
        slot=want.instance.slot,
        spec=want.backend.spec,
        revision=want.revision,
        rollout=want.rollout_label,
        local=here.observed.local(key, want.backend.spec) or "",
        addresses=pair,
        ports=ports,
    )
    publish: tuple[Publish, ...] = ()
    if ports is not None and here.site.address is not None:
        port = ports[0] if want.instance.slot == "primary" else ports[1]
        publish = (Publish(host_address=here.site.address, host_port=port, container_port=service.spec.port),)
    side = None
    if service.spec.sidecar:
        side = containers.sidecar(here.site, want.instance, labels.model_copy(update={"role": "sidecar"}), publish)
    return {
        "application": containers.application(here.site, service, want.instance, image, labels, publish),
        "sidecar": side,
    }
