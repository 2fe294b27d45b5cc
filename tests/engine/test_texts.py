"""The intended texts: worked out once for a pass, and those that stand for another one count as that one."""

from __future__ import annotations

import pytest

from reconciler.engine.texts import LOOKED_AT, Texts
from reconciler.errors import Stalled
from reconciler.model.observed import Elapsed, NginxState, Observed, Refusal
from reconciler.model.routes import Peer
from reconciler.plan import facts
from reconciler.plan.nginxes import Intended, configs
from reconciler.plan.refusals import upstream_part
from tests.plan.build import service, story
from tests.plan.server import Server


def ground() -> tuple[Server, Observed, Texts]:
    """A calm server with an edge to two services."""
    there = Server(story(service(public=True), service("api", "y1", public=True))).calm()
    return there, there.observe(), Texts()


def intended(texts: Texts, there: Server, observed: Observed) -> dict[str, Intended]:
    assert there.story.cluster is not None
    return texts.intended(there.story.want, there.story.cluster, observed, there.site, Elapsed())


def edge(observed: Observed, loaded: str | None, *refusals: Refusal) -> Observed:
    state = NginxState(name="nginx", loaded=loaded, refusals=refusals)
    return observed.model_copy(update={"nginx": {**observed.nginx, "nginx": state}})


def test_they_are_worked_out_once_while_nothing_that_they_depend_on_changes() -> None:
    there, observed, texts = ground()
    first = intended(texts, there, observed)
    for _ in range(5):
        assert intended(texts, there, there.observe()) is first
    assert texts.worked_out == 1


@pytest.mark.parametrize(
    "change",
    [
        {"containers": ()},
        {"pairs": {"shop/prod/other#1": ("10.1.1.1", "10.1.1.2")}},
        {"nginx": {}},
        {"dead": {"10.0.0.9:80": "refused"}},
        {"busy_loopback": frozenset({5000})},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_they_depend_on_is_noticed(change: dict[str, object]) -> None:
    there, observed, texts = ground()
    intended(texts, there, observed)
    intended(texts, there, observed.model_copy(update=change))
    assert texts.worked_out == 2


def test_all_that_the_routes_look_at_is_compared() -> None:
    """What is observed and not named there must not decide about a text."""
    there, observed, _ = ground()
    assert there.story.cluster is not None
    looked: set[str] = set()

    class Watched(Observed):
        def __getattribute__(self, name: str) -> object:
            if name in Observed.model_fields:
                looked.add(name)
            return super().__getattribute__(name)

    watched = Watched.model_construct(**{name: getattr(observed, name) for name in Observed.model_fields})
    looked.clear()
    texts = Texts()
    texts.intended(there.story.want, there.story.cluster, watched, there.site, Elapsed())
    assert looked - {"server"} <= set(LOOKED_AT)


def test_a_refusal_whose_wait_is_over_is_noticed() -> None:
    there, observed, texts = ground()
    refusal = Refusal(upstream="shop_prod_web", kind="upstream", part="x", error="no")
    waiting = edge(observed, "older", refusal)
    intended(texts, there, waiting)
    assert there.story.cluster is not None
    over = Elapsed(seconds={facts.refused_part("nginx", refusal): 10.0})
    texts.intended(there.story.want, there.story.cluster, waiting, there.site, over)
    assert texts.worked_out == 2


def test_a_decision_made_within_the_pass_is_not_missed() -> None:
    there, observed, texts = ground()
    before = intended(texts, there, observed)
    there.story.commit(service(digest="x2", public=True), service("api", "y1", public=True), revision=2).settle()
    assert intended(texts, there, observed) != before and texts.worked_out == 2


def test_a_text_by_address_is_as_good_as_the_one_that_was_refused() -> None:
    there, observed, texts = ground()
    full = intended(texts, there, observed)["nginx"]
    (web,) = [u for u in full.config.upstreams if u.name == "shop_prod_web"]
    refusal = Refusal(upstream=web.name, kind="upstream", part=upstream_part(web.peers), error="no")
    held = intended(texts, there, edge(observed, full.fingerprint, refusal))["nginx"]
    assert held.fingerprint != full.fingerprint and not held.missing
    loaded = NginxState(name="nginx", loaded=held.fingerprint)
    assert held.loaded_by(loaded) and held.lacking(loaded) == frozenset()
    forgotten = intended(texts, there, edge(observed, held.fingerprint))["nginx"]
    assert not forgotten.loaded_by(loaded) and forgotten.lacking(loaded) == frozenset()


def test_a_text_that_leaves_a_service_as_it_was_lacks_it_until_another_one_is_loaded() -> None:
    there, observed, texts = ground()
    full = intended(texts, there, observed)["nginx"]
    (web,) = [u for u in full.config.upstreams if u.name == "shop_prod_web"]
    refused = Refusal(upstream=web.name, kind="upstream", part=upstream_part(web.peers), error="no")
    by_address = intended(texts, there, edge(observed, full.fingerprint, refused))["nginx"]
    (again,) = [u for u in by_address.config.upstreams if u.name == "shop_prod_web"]
    kept = (Peer(address="10.9.9.9:80"),)
    both = (refused, refused.model_copy(update={"part": upstream_part(again.peers), "kept": kept}))
    partial = intended(texts, there, edge(observed, full.fingerprint, *both))["nginx"]
    assert partial.missing == {"shop_prod_web"}
    assert partial.lacking(NginxState(name="nginx", loaded=partial.fingerprint)) == frozenset({"shop_prod_web"})
    assert partial.lacking(NginxState(name="nginx", loaded=full.fingerprint)) == frozenset()
    assert partial.lacking(NginxState(name="nginx", loaded="something else")) is None
    retried = intended(texts, there, edge(observed, partial.fingerprint))["nginx"]
    assert retried.lacking(NginxState(name="nginx", loaded=partial.fingerprint)) == frozenset({"shop_prod_web"})


def test_a_value_that_cannot_be_written_leaves_out_its_service_and_nobody_else() -> None:
    there, observed, texts = ground()
    bad = service(public=True).model_copy(
        update={"public": (service(public=True).public[0].model_copy(update={"hosts": ("no;host",)}),)}
    )
    there.story.want = there.story.want.model_copy(update={"services": {**there.story.want.services, bad.key: bad}})
    found = intended(texts, there, observed)["nginx"]
    assert {u.name for u in found.config.upstreams} == {"shop_prod_api"}
    assert [r.host for r in found.config.routes if r.upstream is None] == []
    assert "no;host" in found.unwritable["shop_prod_web"]
    assert found.lacking(NginxState(name="nginx", loaded=found.fingerprint)) == frozenset({"shop_prod_web"})


def test_when_no_service_is_to_blame_it_is_said_and_not_guessed() -> None:
    there, observed, texts = ground()
    there.site = there.site.model_copy(update={"edge_name": "no such;name"})
    with pytest.raises(Stalled, match="no such;name"):
        intended(texts, there, observed)


def test_when_all_runs_the_texts_by_name_are_not_worked_out_twice() -> None:
    there, observed, texts = ground()
    assert there.story.cluster is not None
    up = configs(there.story.want, there.story.cluster, observed, there.site, assume_up=True)
    assert up == configs(there.story.want, there.story.cluster, observed, there.site)
    there.stop("shop_prod_web")
    down = intended(texts, there, there.observe())["nginx"]
    assert down.equivalent != down.fingerprint


def test_a_mask_is_loaded_and_neither_it_nor_its_end_touches_the_acknowledgement() -> None:
    there = Server(story(service(replicas=2))).calm()
    observed, texts = there.observe(), Texts()
    pair = there.box("shop_prod_web_r2").plan.labels.addresses
    assert pair is not None
    before = intended(texts, there, observed)["nginx_host"]
    dead = observed.model_copy(update={"dead": {f"{pair[0]}:80": "refused"}})
    want = intended(texts, there, dead)["nginx_host"]
    assert want.masked == {("shop_prod_web", f"{pair[0]}:80")}
    unmasked, mask = (NginxState(name="nginx_host", loaded=each.fingerprint) for each in (before, want))
    assert not want.loaded_by(unmasked) and want.lacking(unmasked) == frozenset()
    assert want.loaded_by(mask) and want.lacking(mask) == frozenset()
    back = intended(texts, there, observed.model_copy(update={"nginx": {"nginx_host": mask}}))["nginx_host"]
    assert not back.loaded_by(mask) and back.lacking(mask) == frozenset()


def test_a_mask_of_an_older_generation_is_not_taken_for_the_new_one() -> None:
    there = Server(story(service(replicas=2))).calm()
    texts = Texts()
    pair = there.box("shop_prod_web_r2").plan.labels.addresses
    assert pair is not None
    dead = {f"{pair[0]}:80": "refused"}
    old = intended(texts, there, there.observe().model_copy(update={"dead": dead}))["nginx_host"]
    there.story.commit(service(digest="x2", replicas=2), revision=2).settle()
    loaded = NginxState(name="nginx_host", loaded=old.fingerprint)
    now = there.observe().model_copy(update={"dead": dead, "nginx": {"nginx_host": loaded}})
    assert intended(texts, there, now)["nginx_host"].lacking(loaded) is None
