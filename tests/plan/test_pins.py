"""A mutable tag is resolved once for each rollout, and every server runs those bytes."""

from __future__ import annotations

import pytest

from reconciler.model.action import PrepareImage, StartInstance
from reconciler.model.cluster import Live
from reconciler.model.desired import Build, DesiredService, Rolling
from reconciler.model.observed import Elapsed, Gate, Image, ImageState
from reconciler.model.report import InstanceReport
from reconciler.plan.reporting import report
from tests.plan.build import Story, service, story
from tests.plan.server import Server

AB = ("a", "b")
FIRST, SECOND = "web@sha256:11", "web@sha256:22"


def built(want: DesiredService) -> DesiredService:
    """The same, from the config repository."""
    build = Build(context="projects/shop", dockerfile="Dockerfile", tree=want.spec.digest * 32, files=())
    return want.model_copy(update={"spec": want.spec.model_copy(update={"image": None, "build": build})})


def staged(want: DesiredService | None = None) -> Story:
    """x2 is staged over x1 on two servers."""
    told = story(service(servers=AB), servers=AB)
    told.commit(want or service(digest="x2", servers=AB), revision=2).decide()
    return told


def say(told: Story, server: str, phase: str, image: str | None) -> None:
    """`server` says how far it has come, and with which bytes."""
    right = told.report(server, phase)

    def said(entry: InstanceReport) -> InstanceReport:
        return entry.model_copy(update={"image": image}) if entry.phase == phase else entry

    told.reports[server] = right.model_copy(update={"instances": tuple(said(entry) for entry in right.instances)})


def recorded(told: Story) -> str | None:
    """The reference that the rollout names."""
    rollout = told.state().rollout
    return rollout.image if rollout is not None else None


def test_what_the_first_server_resolved_is_recorded_before_the_others_are_ready() -> None:
    told = staged()
    say(told, "b", "starting", SECOND)
    reasons = told.decide().reasons
    assert (recorded(told), told.phase()) == (SECOND, "staging")
    assert reasons == ("shop/prod/web image web:x2 is web@sha256:22, as b found it",)


def test_a_server_that_is_ready_with_other_bytes_is_waited_for() -> None:
    told = staged()
    say(told, "a", "ready", FIRST)
    say(told, "b", "ready", SECOND)
    told.decide()
    assert (recorded(told), told.phase()) == (FIRST, "staging")
    told.decide()
    assert told.phase() == "staging"
    say(told, "b", "ready", FIRST)
    told.decide()
    assert (told.phase(), told.state().live.image) == ("switching", FIRST)  # type: ignore[union-attr]


def test_replicas_on_one_server_run_the_same_bytes_too() -> None:
    """The tag moved between the two, as the server was started anew."""
    told = story(service(replicas=2))
    told.commit(service(digest="x2", replicas=2), revision=2).decide()
    right = told.report("a", "ready")
    images = {1: FIRST, 2: SECOND}
    found = tuple(
        entry.model_copy(update={"image": images[entry.replica]}) if entry.phase == "ready" else entry for entry in right.instances
    )
    told.reports["a"] = right.model_copy(update={"instances": found})
    told.decide()
    assert (recorded(told), told.phase()) == (FIRST, "staging")


def test_servers_that_agree_need_no_step_of_its_own() -> None:
    told = staged()
    for server in AB:
        say(told, server, "ready", FIRST)
    told.decide()
    assert (told.phase(), told.state().live.image) == ("switching", FIRST)  # type: ignore[union-attr]


@pytest.mark.parametrize(("other", "live"), [("sha256:1", "sha256:1"), ("sha256:2", None)], ids=["same", "different"])
def test_local_images_are_not_pinned_across_servers(other: str, live: str | None) -> None:
    """An id names bytes that nobody else can fetch: it is kept where every server has it, and a tag stays a tag where not."""
    told = staged()
    say(told, "a", "starting", "sha256:1")
    told.decide()
    assert recorded(told) is None
    say(told, "a", "ready", "sha256:1")
    say(told, "b", "ready", other)
    told.decide()
    assert (told.phase(), told.state().live.image) == ("switching", live)  # type: ignore[union-attr]


def test_a_build_promises_the_tree_and_is_not_pinned() -> None:
    told = staged(built(service(digest="x2", servers=AB)))
    say(told, "a", "starting", FIRST)
    told.decide()
    assert recorded(told) is None
    say(told, "a", "ready", FIRST)
    say(told, "b", "ready", SECOND)
    told.decide()
    assert told.phase() == "switching"


def test_what_the_config_pins_itself_is_recorded_from_the_start() -> None:
    want = service(digest="x2", servers=AB)
    told = staged(want.model_copy(update={"spec": want.spec.model_copy(update={"image": FIRST})}))
    assert recorded(told) == FIRST


def test_a_new_place_of_a_live_version_gets_its_bytes() -> None:
    told = staged().settle()
    told.commit(service(digest="x2", servers=("a",)), revision=3).settle()
    live = told.state().live
    told.commit(service(digest="x2", servers=AB), revision=4).decide()
    assert live is not None and recorded(told) == live.image == "shop/prod/web@x2"


def test_a_local_image_is_asked_for_by_its_tag_on_a_server_that_may_not_have_it() -> None:
    told = staged()
    for server in AB:
        say(told, server, "ready", "sha256:1")
    told.settle()
    live = told.state().live
    assert live is not None
    told.cluster = told.cluster.model_copy(  # type: ignore[union-attr]
        update={
            "services": {
                "shop/prod/web": told.state().model_copy(update={"live": live.model_copy(update={"image": "sha256:1"})}),
            }
        }
    )
    told.commit(service(digest="x2", servers=("a",)), revision=3).settle()
    told.commit(service(digest="x2", servers=AB), revision=4).decide()
    assert told.slots("staged") != []
    assert recorded(told) is None


def test_each_batch_of_a_line_runs_what_the_first_one_resolved() -> None:
    rolling = Rolling(soak=0.0)
    told = story(service(servers=AB, rolling=rolling), servers=AB)
    told.commit(service(digest="x2", servers=AB, rolling=rolling), revision=2).decide()
    say(told, "a", "ready", FIRST)
    told.decide()
    assert (told.phase(), recorded(told)) == ("switching", FIRST)
    for _ in range(3):
        told.obey()
        told.decide()
    say(told, "b", "ready", SECOND)
    told.decide()
    assert told.slots("staged") == ["b secondary x2"]
    say(told, "b", "ready", FIRST)
    told.decide()
    assert told.phase() == "switching"


def test_a_version_that_a_stopped_line_left_on_one_server_comes_to_the_others_with_those_bytes() -> None:
    """Simulation seed 748: the tag had moved by the time of the commit that went back to the version."""
    rolling = Rolling(soak=0.0)
    told = story(service(servers=AB, rolling=rolling), servers=AB)
    state = told.state()
    left = tuple(b.model_copy(update={"spec": "x2"}) if b.server == "a" else b for b in state.backends)
    others = (Live(spec="x2", revision="2" * 40, image=FIRST),)
    services = {"shop/prod/web": state.model_copy(update={"backends": left, "others": others})}
    told.cluster = told.cluster.model_copy(update={"services": services})  # type: ignore[union-attr]
    told.commit(service(digest="x2", servers=AB, rolling=rolling), revision=4).decide()
    assert (told.slots("staged"), recorded(told)) == (["b secondary x2"], FIRST)


def test_a_recreate_pins_before_anything_is_stopped() -> None:
    told = story(service(recreate=True, servers=AB), servers=AB)
    told.commit(service(digest="x2", recreate=True, servers=AB), revision=2).decide()
    say(told, "b", "ready", SECOND)
    told.decide()
    assert (recorded(told), told.phase()) == (SECOND, "staging")


# One server


def running() -> Server:
    """x2 is staged on this server from its tag, and healthy."""
    there = Server(story(service(servers=AB, publish=True), servers=AB)).calm()
    there.story.commit(service(digest="x2", servers=AB, publish=True), revision=2).decide()
    there.carry_out()
    there.carry_out()
    return there


def pin(there: Server, reference: str, identity: str | None) -> str:
    """The decision records `reference`; on this server it is `identity`'s bytes (None: not here). Gives the container's id."""
    cluster = there.story.cluster
    assert cluster is not None
    state = there.story.state()
    rollout = state.rollout.model_copy(update={"image": reference})  # type: ignore[union-attr]
    there.story.cluster = cluster.model_copy(update={"services": {"shop/prod/web": state.model_copy(update={"rollout": rollout})}})
    box = there.box("shop_prod_web_secondary")
    there.overrides["gates"] = {box.id: Gate(state="passed", after=2.0)}
    if identity is not None:
        image = Image(id=identity, reference=reference)
        there.overrides["images"] = {reference: ImageState(status="present", image=image)}
    return box.id


def test_a_server_makes_sure_that_it_runs_the_recorded_bytes() -> None:
    there = running()
    pin(there, FIRST, None)
    (prepare,) = there.plan()
    assert isinstance(prepare, PrepareImage) and (prepare.reference, prepare.build) == (FIRST, None)


def test_a_server_that_has_other_bytes_starts_anew() -> None:
    there = running()
    old = pin(there, FIRST, "sha256:other")
    (start,) = there.plan()
    assert isinstance(start, StartInstance)
    assert (start.replaces, start.application.image) == ((old,), FIRST)


@pytest.mark.parametrize("identity", [None, "sha256:other"])
def test_a_failure_with_bytes_that_are_not_known_to_be_the_recorded_ones_is_no_failure_of_those(identity: str | None) -> None:
    """Found by the simulation (seed 8046): after a power cut it neither voted nor prepared the image, for ever."""
    there = running()
    box = pin(there, FIRST, identity)
    there.stop("shop_prod_web_secondary")
    there.overrides["gates"] = {box: Gate(state="failed", error="exited with code 255")}
    (action,) = there.plan()
    assert isinstance(action, PrepareImage if identity is None else StartInstance)


@pytest.mark.parametrize(("identity", "phase"), [(None, "preparing"), ("sha256:other", "preparing"), ("own", "ready")])
def test_a_server_votes_only_for_the_recorded_bytes(identity: str | None, phase: str) -> None:
    there = running()
    own = there.box("shop_prod_web_secondary").plan.image
    pin(there, FIRST, own if identity == "own" else identity)
    observed = there.observe()
    made = report(
        there.story.want, there.story.cluster, observed, there.site, there.intended(observed), None,
        identity="a", program="1", elapsed=Elapsed(),
    )  # fmt: skip
    (entry,) = (entry for entry in made.instances if entry.slot == "secondary")
    assert (entry.phase, entry.image) == (phase, FIRST if phase == "ready" else None)


def test_a_server_that_has_the_same_bytes_goes_on() -> None:
    there = running()
    pin(there, FIRST, there.box("shop_prod_web_secondary").plan.image)
    assert there.plan() == ()
