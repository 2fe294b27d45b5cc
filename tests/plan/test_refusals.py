"""plan: what an nginx refused holds back nobody else, and is not acknowledged for its service (DESIGN section 4, rule 3)."""

from __future__ import annotations

from reconciler.model.observed import Elapsed, NginxState, Observed, Refusal
from reconciler.model.report import Report, Serving
from reconciler.model.routes import Listener, NginxConfig, Peer, Route, Upstream
from reconciler.plan import facts
from reconciler.plan.nginxes import Intended, lacking, serves
from reconciler.plan.refusals import leave_out, settle, upstream_part
from reconciler.plan.reporting import report
from reconciler.plan.votes import acknowledged, unretired
from tests.plan.build import Story, key, service, story
from tests.plan.server import Server

API = Upstream(name="shop_prod_api", peers=(Peer(address="shop_prod_api:8000"), Peer(address="10.213.0.12:8000", backup=True)))
WEB = Upstream(name="shop_prod_web", peers=(Peer(address="10.0.0.1:8421"),))
OLD = (Peer(address="shop_prod_web_secondary:80"),)
PAIRS = {"shop/prod/api#1": ("10.213.0.11", "10.213.0.12"), "shop/prod/web#1": ("10.213.0.21", "10.213.0.22")}
OBSERVED = Observed(server="a", pairs=PAIRS)
CONFIG = NginxConfig(
    kind="edge",
    name="nginx",
    generation_port=4999,
    http_ports=(80,),
    upstreams=(API, WEB),
    routes=(
        Route(host="api.example", path="/", rewrite=None, upstream="shop_prod_api", service="shop/prod/api"),
        Route(host="web.example", path="/", rewrite=None, upstream="shop_prod_web", service="shop/prod/web"),
    ),
    listeners=(Listener(port=5310, upstream="shop_prod_api"), Listener(port=5432, upstream="shop_prod_web")),
)


def refusal(upstream: Upstream, *, kept: tuple[Peer, ...] = (), tries: int = 1) -> Refusal:
    return Refusal(
        upstream=upstream.name, kind="upstream", part=upstream_part(upstream.peers), error="[emerg] no", kept=kept, tries=tries
    )


def state(*refusals: Refusal) -> NginxState:
    return NginxState(name="nginx", loaded="older", refusals=refusals)


def peers(config: NginxConfig, name: str) -> list[str] | None:
    return next(([p.address for p in u.peers] for u in config.upstreams if u.name == name), None)


def test_without_a_refusal_everything_is_loaded() -> None:
    assert settle(CONFIG, state(), OBSERVED, Elapsed()).config == CONFIG


def test_a_name_that_was_refused_is_written_as_the_address_that_it_stands_for() -> None:
    settled = settle(CONFIG, state(refusal(API)), OBSERVED, Elapsed())
    assert peers(settled.config, "shop_prod_api") == ["10.213.0.11:8000", "10.213.0.12:8000"]
    assert peers(settled.config, "shop_prod_web") == ["10.0.0.1:8421"]
    assert settled.missing == frozenset()


def test_a_service_whose_addresses_were_refused_too_stays_as_it_was_loaded_and_is_missing() -> None:
    settled = settle(CONFIG, state(refusal(WEB, kept=OLD)), OBSERVED, Elapsed())
    assert peers(settled.config, "shop_prod_web") == ["10.213.0.22:80"]
    assert peers(settled.config, "shop_prod_api") == ["shop_prod_api:8000", "10.213.0.12:8000"]
    assert settled.missing == {"shop_prod_web"}
    assert settled.config.routes == CONFIG.routes


def test_a_service_that_was_not_loaded_before_is_left_out_and_the_others_are_not() -> None:
    settled = settle(CONFIG, state(refusal(WEB)), OBSERVED, Elapsed())
    assert [upstream.name for upstream in settled.config.upstreams] == ["shop_prod_api"]
    assert [listener.port for listener in settled.config.listeners] == [5310]
    assert [route.upstream for route in settled.config.routes] == ["shop_prod_api", None]
    assert settled.missing == {"shop_prod_web"}


def test_what_was_refused_is_tried_again_after_a_wait_that_grows() -> None:
    found = refusal(WEB, kept=OLD, tries=2)
    fact = facts.refused_part("nginx", found)
    early, late = (settle(CONFIG, state(found), OBSERVED, Elapsed(seconds={fact: age})) for age in (19.0, 20.0))
    assert early.missing == {"shop_prod_web"}
    assert late.config == CONFIG and not late.missing


def test_another_part_than_the_refused_one_is_tried_at_once() -> None:
    moved = CONFIG.model_copy(update={"upstreams": (API, WEB.model_copy(update={"peers": (Peer(address="10.0.0.1:18421"),)}))})
    assert settle(moved, state(refusal(WEB, kept=OLD)), OBSERVED, Elapsed()).config == moved


def test_a_port_in_use_silences_that_listener_alone() -> None:
    busy = Refusal(upstream="shop_prod_web", kind="listener", part="5432", error="[emerg] bind()")
    settled = settle(CONFIG, state(busy), OBSERVED, Elapsed())
    assert [listener.port for listener in settled.config.listeners] == [5310]
    assert peers(settled.config, "shop_prod_web") == ["10.0.0.1:8421"]
    assert settled.silent == {("shop_prod_web", 5432)} and not settled.missing


def test_what_is_left_out_is_led_to_by_nothing() -> None:
    rest = leave_out(CONFIG, {"shop_prod_api"})
    assert ([u.name for u in rest.upstreams], [item.port for item in rest.listeners]) == (["shop_prod_web"], [5432])
    assert [route.upstream for route in rest.routes] == ["shop_prod_web"]


def told(there: Server, intended: dict[str, Intended], previous: Report | None = None) -> Report:
    made: Report = report(
        there.story.want,
        there.story.cluster,
        there.observe(),
        there.site,
        intended,
        previous,
        identity="a",
        elapsed=Elapsed(),
        program="1",
    )
    return made


def lacking_web() -> tuple[Server, dict[str, Intended]]:
    """A server whose edge has loaded everything but what web should be."""
    there = Server(story(service(public=True), service("api", "y1", public=True))).calm()
    intended = there.intended(there.observe())
    partial = Intended(intended["nginx"].config, "partial", missing=frozenset({"shop_prod_web"}))
    found = Refusal(upstream="shop_prod_web", kind="upstream", part="x", error="[emerg] host not found")
    there.nginx("nginx", loaded="partial", refusals=(found,))
    return there, {**intended, "nginx": partial}


def test_the_server_acknowledges_for_the_others_and_names_the_service_that_it_does_not() -> None:
    there, intended = lacking_web()
    assert lacking(intended, there.observe()) == frozenset({"shop_prod_web"}) and not serves(intended, there.observe())
    made = told(there, intended)
    cluster = there.story.cluster
    assert cluster is not None and made.serving is not None
    assert (made.serving.generation, made.serving.without) == (cluster.generation, ("shop/prod/web",))
    (condition,) = [c for c in made.conditions if c.type == "NginxLoaded"]
    assert (condition.service, condition.reason) == ("shop/prod/web", "Refused")
    assert "[emerg] host not found" in condition.message
    reports = {"a": made}
    assert acknowledged(cluster, reports, cluster.generation, key()) == ("a",)
    assert acknowledged(cluster, reports, cluster.generation, key("api")) == ()
    assert unretired(cluster, reports, cluster.generation, key()) == ("a",)


def test_the_acknowledgement_is_whole_again_once_the_service_is_loaded() -> None:
    there, intended = lacking_web()
    before = told(there, intended)
    there.overrides.clear()
    after = told(there, there.intended(there.observe()), before)
    assert after.serving is not None and after.serving.without == ()


def test_a_rollout_waits_for_the_server_that_refused_it_and_another_one_does_not() -> None:
    """The old slot is what the nginx still routes to."""
    both = story(service(), service("api", "y1"))
    both.commit(service(digest="x2"), service("api", "y2"), revision=2)
    for _ in range(12):
        both.decide()
        both.obey()
        made = both.reports["a"]
        serving = Serving(epoch=both.cluster.epoch, generation=both.cluster.generation, without=("shop/prod/web",))  # type: ignore[union-attr]
        both.reports["a"] = made.model_copy(update={"serving": serving})
    assert (both.phase(), both.phase("api")) == ("switching", "done")
    assert both.slots("draining") == ["a primary x1"]
    both.settle()
    assert both.phase() == "done"


def stuck_sidecar(tries: int) -> tuple[Server, dict[str, Intended]]:
    there = Server(story(service(sidecar=True, needs=("db",)), service("db", "d1"))).calm()
    intended = there.intended(there.observe())
    changed = Intended(intended["shop_prod_web_sidecar"].config, "newer")
    there.nginx("shop_prod_web_sidecar", refused="newer", error="[alert] worker frozen", tries=tries)
    return there, {**intended, "shop_prod_web_sidecar": changed}


def test_a_sidecar_that_cannot_reload_holds_up_the_acknowledgement_for_a_bounded_number_of_tries() -> None:
    there, intended = stuck_sidecar(2)
    assert told(there, intended).serving is None and told(there, intended).refresh == ()
    there, intended = stuck_sidecar(3)
    made = told(there, intended)
    assert made.serving is not None and made.serving.without == ()
    assert made.refresh == ("shop/prod/web",)
    assert ("SidecarStuck", "shop/prod/web") in {(c.reason, c.service) for c in made.conditions}


def with_wish(found: Story, made: Report) -> None:
    """The server says what the decision wants to hear, and asks for a fresh sidecar."""
    found.obey()
    asked = {"refresh": made.refresh, "conditions": made.conditions}
    found.reports["a"] = found.reports["a"].model_copy(update=asked)


def test_it_is_replaced_with_its_pair_in_the_other_slot_make_before_break() -> None:
    there, intended = stuck_sidecar(3)
    made = told(there, intended)
    with_wish(there.story, made)
    there.story.decide()
    rollout = there.story.state().rollout
    assert rollout is not None and (rollout.strategy, rollout.scope, rollout.phase) == ("refresh", ("a",), "staging")
    assert rollout.cause == "a sidecar cannot reload on a"
    assert there.story.slots("live") == ["a primary x1"] and there.story.slots("staged") == ["a secondary x1"]
    there.story.settle()
    assert there.story.slots("live") == ["a secondary x1"] and there.story.slots("draining") == []


def test_a_text_that_a_fresh_sidecar_refuses_too_is_not_tried_for_ever() -> None:
    there, intended = stuck_sidecar(3)
    made = told(there, intended)
    with_wish(there.story, made)
    there.story.decide()
    there.story.reports["a"] = there.story.report("a", "failed").model_copy(update={"refresh": made.refresh})
    for _ in range(5):
        there.story.decide()
    state = there.story.state()
    assert state.rollout is not None and state.rollout.phase == "aborted"
    assert state.held is not None and "reconcile retry" in state.held
    assert there.story.slots("live") == ["a primary x1"] and there.story.slots("staged") == []


def test_a_fresh_sidecar_that_never_comes_up_stops_at_the_deadline_and_says_why() -> None:
    there, intended = stuck_sidecar(3)
    made = told(there, intended)
    with_wish(there.story, made)
    there.story.decide()
    waiting = there.story.report("a", "waiting")
    why = "shop_prod_web_sidecar did not take its configuration: [emerg] no"
    entries = tuple(e.model_copy(update={"reason": why}) if e.phase == "waiting" else e for e in waiting.instances)
    there.story.reports["a"] = waiting.model_copy(update={"instances": entries, "refresh": made.refresh})
    rollout = there.story.state().rollout
    assert rollout is not None
    there.story.elapsed = {facts.staging(key(), rollout): 601.0}
    for _ in range(5):
        there.story.decide()
    state = there.story.state()
    assert state.rollout is not None and state.rollout.phase == "aborted" and state.retries == 0
    assert state.held is not None and why in state.held and "reconcile retry" in state.held
