"""plan: bringing instances about and back, and ending them."""

from __future__ import annotations

import pytest

from reconciler.model.action import PrepareImage, RemoveInstance, StartContainer, StartInstance
from reconciler.model.observed import Elapsed, Gate, Image, ImageState
from reconciler.plan import facts
from reconciler.plan.addresses import pair_for
from reconciler.plan.allocations import Allocations, Here, pair_of
from reconciler.plan.planner import stalls
from reconciler.ports import host_port
from tests.plan.build import key, service, story
from tests.plan.server import Server

WEB = key().instance("primary")


IMAGE = Image(id="sha256:1", reference="registry.example/web@sha256:1")


def server(*, sidecar: bool = True) -> Server:
    """web runs as it is desired."""
    return Server(story(service(sidecar=sidecar))).calm()


def staging(*, sidecar: bool = False) -> Server:
    """x2 is to be staged over x1, which runs."""
    there = server(sidecar=sidecar)
    there.story.commit(service(digest="x2", sidecar=sidecar), revision=2).decide()
    return there


def test_a_converged_server_plans_nothing() -> None:
    assert server().plan() == ()


def test_a_missing_instance_is_put_back_with_its_sidecar() -> None:
    there = server()
    there.remove("shop_prod_web")
    there.remove("shop_prod_web_sidecar")
    (start,) = (a for a in there.plan() if isinstance(a, StartInstance))
    assert (start.instance, start.replaces, start.cause) == (WEB, (), "shop_prod_web is missing")
    assert start.sidecar is not None and start.application.namespace_of == start.sidecar.name


@pytest.mark.parametrize(("status", "paused"), [("exited", False), ("created", False), ("paused", True)])
def test_a_stopped_application_is_started_again(status: str, paused: bool) -> None:
    there = server()
    there.stop("shop_prod_web", status)
    (start,) = (a for a in there.plan() if isinstance(a, StartContainer))
    assert (start.id, start.paused) == (there.box("shop_prod_web").id, paused)


def test_a_dead_container_is_replaced() -> None:
    there = server(sidecar=False)
    there.stop("shop_prod_web", "dead")
    (start,) = (a for a in there.plan() if isinstance(a, StartInstance))
    assert start.replaces == (there.box("shop_prod_web").id,)


def test_a_dead_sidecar_takes_its_pair_with_it() -> None:
    there = server()
    there.stop("shop_prod_web_sidecar")
    (start,) = (a for a in there.plan() if isinstance(a, StartInstance))
    assert set(start.replaces) == {there.box("shop_prod_web").id, there.box("shop_prod_web_sidecar").id}
    assert start.cause == "the sidecar of shop_prod_web is exited"


def test_a_paused_sidecar_goes_on() -> None:
    there = server()
    there.stop("shop_prod_web_sidecar", "paused")
    (start,) = (a for a in there.plan() if isinstance(a, StartContainer))
    assert (start.name, start.paused) == ("shop_prod_web_sidecar", True)


def test_an_application_that_is_gone_is_put_back_into_its_sidecar() -> None:
    """Its namespace, its address and its port are still there, and nothing that goes through it is cut."""
    there = server()
    side = there.box("shop_prod_web_sidecar").id
    there.remove("shop_prod_web")
    (start,) = (a for a in there.plan() if isinstance(a, StartInstance))
    assert (start.replaces, start.sidecar, start.sidecar_config) == ((), None, None)
    assert start.application.namespace_of == "shop_prod_web_sidecar"
    there.calm()
    assert there.box("shop_prod_web_sidecar").id == there.box("shop_prod_web").owner == side


def test_an_application_of_another_namespace_is_put_into_its_sidecar() -> None:
    """The sidecar was made anew by hand, or a run was cut short between the two."""
    there = server()
    there.box("shop_prod_web").owner = "gone"
    (start,) = (a for a in there.plan() if isinstance(a, StartInstance))
    assert (start.replaces, start.sidecar) == ((there.box("shop_prod_web").id,), None)


@pytest.mark.parametrize("fault", ["silent", "shape", "stopped"])
def test_a_sidecar_that_is_not_whole_is_replaced_with_its_application(fault: str) -> None:
    there = server()
    side = there.box("shop_prod_web_sidecar")
    there.remove("shop_prod_web")
    if fault == "silent":
        there.nginx(side.plan.name, loaded=None)
    elif fault == "shape":
        side.plan = side.plan.model_copy(update={"labels": side.plan.labels.model_copy(update={"shape": "older"})})
    else:
        side.status = "exited"
    (start,) = (a for a in there.plan() if isinstance(a, StartInstance))
    assert start.replaces == (side.id,) and start.sidecar is not None


def test_a_sidecar_of_another_attempt_does_not_stay_for_this_one() -> None:
    there = server()
    there.story.commit(service(digest="x2", sidecar=True), revision=2).decide()
    there.carry_out()
    there.carry_out()
    side = there.box("shop_prod_web_secondary_sidecar")
    side.plan = side.plan.model_copy(update={"labels": side.plan.labels.model_copy(update={"rollout": "another/1"})})
    there.remove("shop_prod_web_secondary")
    (start,) = (a for a in there.plan() if isinstance(a, StartInstance))
    assert start.replaces == (side.id,) and start.sidecar is not None


def test_another_spec_than_the_live_one_is_replaced() -> None:
    there = server(sidecar=False)
    box = there.box("shop_prod_web")
    box.plan = box.plan.model_copy(update={"labels": box.plan.labels.model_copy(update={"spec": "x0"})})
    (start,) = (a for a in there.plan() if isinstance(a, StartInstance))
    assert start.cause == "shop_prod_web runs x0, x1 is live"


def test_what_was_changed_by_hand_is_undone_without_a_restart() -> None:
    there = server(sidecar=False)
    containers = tuple(
        c.model_copy(update={"drift": ("memory limit 0 -> 1",)}) if c.name == "shop_prod_web" else c
        for c in there.observe().containers
    )
    there.overrides["containers"] = containers
    assert there.kinds() == ["restore_container"]


@pytest.mark.parametrize(
    ("heals", "waited", "starts"), [(0, 0.0, True), (1, 0.5, False), (1, 1.0, True), (9, 59.0, False), (9, 60.0, True)]
)
def test_healing_backs_off(heals: int, waited: float, starts: bool) -> None:
    there = server()
    there.stop("shop_prod_web_sidecar")
    there.overrides["heals"] = {"shop_prod_web": heals}
    there.elapsed = {facts.down(WEB): waited}
    assert ("start_instance" in there.kinds()) == starts


def test_a_dead_sidecar_counts_as_down_for_the_back_off() -> None:
    there = server()
    assert facts.down(WEB) not in facts.current(there.story.cluster, {}, there.observe())
    there.stop("shop_prod_web_sidecar")
    assert facts.down(WEB) in facts.current(there.story.cluster, {}, there.observe())


def test_nothing_is_stopped_before_the_image_is_there() -> None:
    """FAULTS 11: old removed, then "No such image"."""
    there = staging()
    assert [(a.kind, getattr(a, "reference", "")) for a in there.plan()] == [("prepare_image", "web:x2")]


@pytest.mark.parametrize(
    ("state", "since", "asked"),
    [
        (ImageState(status="preparing"), 0.0, False),
        (ImageState(status="failed"), 9.0, False),
        (ImageState(status="failed"), 10.0, True),
        (ImageState(status="failed", transient=False), 100.0, False),
        (ImageState(status="failed", transient=False, attempt="shop/prod/web@0000002/1"), 100.0, False),
        (ImageState(status="failed", transient=False, attempt="shop/prod/web@0000001/1"), 1.0, True),
        (ImageState(status="present", image=IMAGE, attempt="shop/prod/web@0000002/1"), 100.0, False),
        (ImageState(status="present", image=IMAGE, attempt="shop/prod/web@0000001/1"), 0.0, True),
        (ImageState(status="present", image=IMAGE), 0.0, True),
    ],
)
def test_an_image_is_asked_for_when_that_may_help(state: ImageState, since: float, asked: bool) -> None:
    there = staging()
    there.overrides["images"] = {**there.observe().images, "web:x2": state}
    there.elapsed = {facts.image_failed("web:x2"): since}
    assert any(isinstance(a, PrepareImage) for a in there.plan()) == asked


def test_missing_secrets_start_nothing() -> None:
    there = staging()
    there.carry_out()
    there.overrides["missing_secrets"] = {"shop/prod/web": ("password",)}
    assert there.plan() == ()


@pytest.mark.parametrize(
    ("code", "sidecar", "with_its_sidecar", "passing"),
    [(0, True, True, True), (7, True, True, True), (137, True, False, False), (137, False, False, True), (7, False, False, False)],
)
def test_a_staged_instance_that_a_reboot_ended_has_not_failed_for_good(
    code: int, sidecar: bool, with_its_sidecar: bool, passing: bool
) -> None:
    """FAULTS 15. With a sidecar that is gone too, or without one by a code that a stop has."""
    there = staging(sidecar=sidecar)
    there.carry_out()
    there.carry_out()
    box = there.box("shop_prod_web_secondary")
    there.stop(box.plan.name)
    box.exit_code = code
    if with_its_sidecar:
        there.stop(f"{box.plan.name}_sidecar")
    there.overrides["gates"] = {box.id: Gate(state="failed", error=f"exited with code {code}")}
    entry = there.says()["secondary"]
    assert (entry.phase, entry.transient) == ("failed", passing)


@pytest.mark.parametrize(("heals", "phase", "starts"), [(0, "starting", True), (3, "starting", True), (4, "failed", False)])
def test_a_service_with_data_that_a_reboot_ended_while_it_was_replaced_is_started_again(
    heals: int, phase: str, starts: bool
) -> None:
    """FAULTS 15. Nothing else serves meanwhile; but what ends again and again is left for the decision."""
    there = Server(story(service(recreate=True)))
    there.calm()
    there.story.commit(service(digest="x2", recreate=True), revision=2).decide()
    there.story.obey()
    there.story.decide()
    assert there.story.phase() == "replacing"
    there.calm()
    box = there.box("shop_prod_web")
    there.stop("shop_prod_web")
    box.exit_code = 137
    there.elapsed = {facts.down(WEB): 1000.0}
    there.overrides["heals"] = {"shop_prod_web": heals}
    there.overrides["gates"] = {box.id: Gate(state="failed", error="exited with code 137")}
    assert there.says()["primary"].phase == phase
    started = [action for action in there.plan() if isinstance(action, StartInstance)]
    assert [action.replaces for action in started] == ([(box.id,)] if starts else [])


def test_a_failed_gate_is_left_for_the_decision() -> None:
    there = staging()
    there.carry_out()
    there.carry_out()
    there.overrides["gates"] = {there.box("shop_prod_web_secondary").id: Gate(state="failed")}
    assert there.plan() == ()


def test_a_staged_instance_is_left_alone_when_secrets_change() -> None:
    """It may have been voted for, and be live, before this server knows."""
    there = staging()
    there.carry_out()
    there.carry_out()
    there.overrides["locals"] = {"shop/prod/web": "other"}
    assert there.plan() == ()


def test_a_staged_instance_of_another_attempt_is_replaced() -> None:
    there = staging()
    there.carry_out()
    there.carry_out()
    box = there.box("shop_prod_web_secondary")
    box.plan = box.plan.model_copy(update={"labels": box.plan.labels.model_copy(update={"rollout": "0000002/0"})})
    (start,) = (a for a in there.plan() if isinstance(a, StartInstance))
    assert start.replaces == (box.id,)


def test_a_foreign_container_of_that_name_is_named_and_never_touched() -> None:
    """FAULTS 18."""
    there = Server(story(service()))
    assert any(isinstance(a, PrepareImage) for a in there.carry_out())
    there.overrides["foreign"] = frozenset({"shop_prod_web"})
    assert not any(isinstance(a, StartInstance) for a in there.plan())
    assert there.story.cluster is not None
    found = stalls(there.story.want, there.story.cluster, there.observe(), Elapsed(), there.site)
    assert found["shop_prod_web"] == (
        "shop/prod/web primary: the container shop_prod_web is there and is not ours; rename or remove it",
        True,
    )


def test_a_newcomer_does_nothing_before_it_is_a_member() -> None:
    there = server()
    assert there.story.cluster is not None
    there.story.cluster = there.story.cluster.model_copy(update={"members": ("b",), "services": {}})
    assert there.plan() == ()


def test_a_leftover_goes_once_every_nginx_has_let_go_of_it() -> None:
    there = staging()
    there.carry_out()
    there.carry_out()
    there.story.obey("failed")
    there.story.decide()
    there.nginx("nginx_host", loaded="older")
    assert "remove_instance" not in there.kinds()
    there.overrides.clear()
    (gone,) = (a for a in there.plan() if isinstance(a, RemoveInstance))
    assert gone.name == "shop_prod_web_secondary" and "aborted" in gone.cause


def test_networks_without_services_are_removed() -> None:
    there = server()
    assert there.story.cluster is not None
    there.story.cluster = there.story.cluster.model_copy(update={"services": {}})
    there.calm()
    assert set(there.boxes.networks) == {"bridge"}
    assert there.boxes.boxes == {}


def draining() -> Server:
    """x2 is live and acknowledged, x1 may go."""
    there = staging()
    there.carry_out()
    there.carry_out()
    there.story.obey()
    there.story.decide()
    there.carry_out()
    there.story.obey()
    there.story.decide()
    assert there.story.phase() == "draining"
    return there


@pytest.mark.parametrize(
    ("connections", "old_workers", "waited", "told", "kind"),
    [
        (0, 0, 0.0, False, "remove_instance"),
        (0, 1, 9.0, False, None),
        (0, 1, 10.0, False, "remove_instance"),
        (3, 0, 9.0, False, None),
        (3, 0, 10.0, False, "signal_instance"),
        (3, 0, 20.0, True, None),
        (3, 0, 30.0, True, "remove_instance"),
        (None, 0, 5.0, False, None),
    ],
)
def test_a_slot_drains_by_counted_connections(
    connections: int | None, old_workers: int, waited: float, told: bool, kind: str | None
) -> None:
    there = draining()
    box = there.box("shop_prod_web")
    there.overrides["connections"] = {} if connections is None else {box.id: connections}
    there.nginx("nginx_host", old_workers=old_workers)
    there.elapsed = {facts.draining(box.id): waited} | ({facts.signalled(box.id): 5.0} if told else {})
    assert there.kinds() == ([kind] if kind else [])


def test_nothing_drains_while_the_switch_is_not_acknowledged() -> None:
    there = staging()
    there.carry_out()
    there.carry_out()
    there.story.obey()
    there.story.decide()
    there.overrides["connections"] = {there.box("shop_prod_web").id: 0}
    assert "remove_instance" not in there.kinds()


def forgotten() -> Server:
    """The same among several: the decision has forgotten x1, which still runs here."""
    there = draining()
    assert there.story.cluster is not None
    state = there.story.state()
    assert state.rollout is not None
    done = state.model_copy(
        update={
            "rollout": state.rollout.model_copy(update={"phase": "done"}),
            "backends": tuple(b for b in state.backends if b.role == "live"),
        }
    )
    there.story.cluster = there.story.cluster.model_copy(update={"services": {"shop/prod/web": done}})
    return there


@pytest.mark.parametrize(
    ("connections", "waited", "kind"), [(0, 0.0, "remove_instance"), (3, 9.0, None), (3, 30.0, "remove_instance")]
)
def test_what_the_decision_has_forgotten_drains_all_the_same(connections: int, waited: float, kind: str | None) -> None:
    there = forgotten()
    box = there.box("shop_prod_web")
    there.overrides["connections"] = {box.id: connections}
    there.elapsed = {facts.draining(box.id): waited}
    assert there.kinds() == ([kind] if kind else [])


def test_the_next_version_waits_for_its_slot_until_what_drains_there_has_gone() -> None:
    there = forgotten()
    box = there.box("shop_prod_web")
    there.overrides["connections"] = {box.id: 1}
    there.story.commit(service(digest="x3"), revision=3).decide()
    assert there.story.slots("staged") == ["a primary x3"]
    assert there.kinds() == ["prepare_image"]
    there.overrides["connections"] = {box.id: 0}
    assert there.kinds() == ["prepare_image", "remove_instance"]
    there.carry_out()
    there.carry_out()
    there.carry_out()
    assert there.box("shop_prod_web").plan.labels.spec == "x3"


def test_what_was_staged_and_aborted_is_removed_at_once_and_is_not_counted() -> None:
    there = staging()
    there.carry_out()
    there.carry_out()
    there.story.obey("failed")
    there.story.decide()
    there.overrides["connections"] = {}
    assert "remove_instance" in there.kinds()


def test_a_process_that_ended_while_it_drained_is_removed() -> None:
    there = draining()
    there.stop("shop_prod_web")
    (gone,) = (a for a in there.plan() if isinstance(a, RemoveInstance))
    assert gone.cause == "drained: its process has ended"


def test_host_ports_that_collide_are_probed_upward_for_both_slots() -> None:
    """FAULTS 58."""
    first = host_port("shop", "prod", "web", 80)
    there = Server(story(service(publish=True)))
    there.overrides["busy_ports"] = frozenset({first, first + 10001})
    there.calm()
    labels = there.box("shop_prod_web").plan.labels
    assert labels.ports == (first + 2, first + 10002)
    there.overrides.clear()
    assert there.plan() == ()
    there.remove("shop_prod_web")
    there.calm()


def test_a_recorded_pair_of_addresses_wins() -> None:
    there = server(sidecar=False)
    before = there.box("shop_prod_web").plan.labels.addresses
    there.remove("shop_prod_web")
    there.story.commit(service(sidecar=False), service("api"), revision=2).decide()
    there.calm()
    assert there.box("shop_prod_web").plan.labels.addresses == before
    assert there.box("shop_prod_api").plan.labels.addresses != before


def test_addresses_that_begin_at_the_same_place_are_given_out_alike_whichever_service_is_ready_first() -> None:
    """A service whose start is under way, with no container yet, is given the addresses that its containers will have."""
    names = [f"s{number}" for number in range(40)]
    begins = {name: pair_for(key(name), 1, "10.0.0.0/24", ()) for name in names}
    first, second = next((a, b) for a in names for b in names if a < b and begins[a] == begins[b])
    there = Server(story(service(first, sidecar=True), service(second, sidecar=True)))
    cluster = there.story.cluster
    assert cluster is not None

    def given(*asked: str) -> list[object]:
        allocations = Allocations({key(first).network: "10.0.0.0/24"})
        here = Here(there.story.want, cluster, there.observe(), Elapsed(), there.site, allocations)
        return [pair_of(here, key(name), 1) for name in asked]

    both = given(first, second)
    assert both[0] == begins[first] != both[1]
    assert given(second) == both[1:] and given(second, first) == both[::-1]
