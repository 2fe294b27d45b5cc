"""plan: dead backends are passed over by this server alone, never the last one, and the report says so once it lasts."""

from __future__ import annotations

import pytest

from reconciler.model.desired import Health
from reconciler.model.observed import Elapsed
from reconciler.model.report import Report
from reconciler.model.routes import NginxConfig, Peer, Upstream
from reconciler.plan import facts
from reconciler.plan.masks import mask, masked, pulse_targets, several
from reconciler.plan.nginxes import Intended
from reconciler.plan.reporting import report
from tests.plan.build import Story, service, story
from tests.plan.server import Server


def config(*peers: Peer) -> NginxConfig:
    return NginxConfig(kind="host", name="box", generation_port=4998, upstreams=(Upstream(name="shop_prod_web", peers=peers),))


def primary(address: str) -> Peer:
    return Peer(address=address)


def far(address: str) -> Peer:
    return Peer(address=address, backup=True, live=True)


def slot(address: str) -> Peer:
    return Peer(address=address, backup=True)


A, B, C, D = "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"


@pytest.mark.parametrize(
    ("peers", "dead", "primaries"),
    [
        ((primary(A), primary(B)), {B}, {A}),
        ((primary(A), primary(B), primary(C)), {A, C}, {B}),
        ((primary(A), primary(B)), {A, B}, {A, B}),
        ((primary(A),), {A}, {A}),
        ((primary(A), slot(B)), {A}, {A}),
        ((primary(A), primary(B), far(C)), {A}, {B}),
        ((primary(A), primary(B), far(C)), {A, B}, {C}),
        ((primary(A), far(C)), {A}, {C}),
        ((primary(A), far(C), far(D)), {A, C}, {D}),
        ((primary(A), far(C)), {A, C}, {A}),
        ((primary(A), far(C)), {C}, {A}),
        ((primary(A), primary(B)), set[str](), {A, B}),
    ],
)
def test_dead_backends_stand_behind_the_others_and_the_last_one_never_does(
    peers: tuple[Peer, ...], dead: set[str], primaries: set[str]
) -> None:
    (found,) = mask(config(*peers), dead, {}).upstreams
    assert {peer.address for peer in found.peers if not peer.backup} == primaries
    assert {peer.address for peer in found.peers} == {peer.address for peer in peers}


def test_without_anything_to_pass_over_the_configuration_is_the_same() -> None:
    same = config(primary(A), primary(B), slot(C))
    assert mask(same, {C, D}, {}) == same and list(masked(same, {C, D}, {})) == []


def test_a_name_is_passed_over_by_the_address_that_it_stands_for() -> None:
    names = {"shop_prod_web": "10.213.0.5", "shop_prod_web_r2": "10.213.0.7"}
    replicas = config(primary("shop_prod_web:80"), primary("shop_prod_web_r2:80"))
    (found,) = mask(replicas, {"10.213.0.7:80"}, names).upstreams
    assert [peer.address for peer in found.peers if not peer.backup] == ["shop_prod_web:80"]
    assert list(masked(replicas, {"10.213.0.7:80"}, names)) == [("shop_prod_web", "10.213.0.7:80")]


def published(told: Story) -> Story:
    assert told.cluster is not None
    state = told.state()
    ports = tuple(b.model_copy(update={"port": 8421}) for b in state.backends)
    services = {"shop/prod/web": state.model_copy(update={"backends": ports})}
    told.cluster = told.cluster.model_copy(update={"services": services})
    return told


def targets(there: Server) -> dict[str, tuple[str | None, float]]:
    observed = there.observe()
    assert there.story.cluster is not None
    listed = several(there.intended(observed))
    found = pulse_targets(there.story.want, there.story.cluster, observed, listed)
    return {address: (target.path, target.timeout) for address, target in found.items()}


def test_one_backend_alone_is_not_looked_at() -> None:
    assert targets(Server(story(service(public=True), service("api", "y1"))).calm()) == {}


def test_replicas_are_looked_at_by_their_addresses() -> None:
    there = Server(story(service(replicas=2), service("api", "y1"))).calm()
    first, second = (there.box(name).plan.labels.addresses for name in ("shop_prod_web", "shop_prod_web_r2"))
    assert first is not None and second is not None
    assert targets(there) == {f"{first[0]}:80": (None, 2.0), f"{second[0]}:80": (None, 2.0)}


def test_backends_of_several_servers_are_looked_at_as_their_health_is_checked() -> None:
    checked = service(publish=True, servers=("a", "b"))
    health = Health(kind="http", path="/up", timeout=1.5)
    checked = checked.model_copy(update={"spec": checked.spec.model_copy(update={"health": health})})
    there = Server(published(story(checked, servers=("a", "b"))))
    there.calm()
    own = there.box("shop_prod_web").plan.address
    assert targets(there) == {f"{own}:80": ("/up", 1.5), "10.0.0.2:8421": ("/up", 1.5)}


def test_a_check_on_another_port_is_not_what_nginx_connects_to() -> None:
    checked = service(publish=True, servers=("a", "b"))
    health = Health(kind="http", path="/up", port=9000)
    checked = checked.model_copy(update={"spec": checked.spec.model_copy(update={"health": health})})
    there = Server(published(story(checked, servers=("a", "b")))).calm()
    assert {path for path, _ in targets(there).values()} == {None}


def told(there: Server, dead: dict[str, str], seconds: dict[str, float]) -> Report:
    there.overrides["dead"] = dead
    observed = there.observe()
    wants = there.intended(observed)
    hits = {name: frozenset(masked(want.config, dead, {})) for name, want in wants.items()}
    intended = {name: Intended(want.config, want.fingerprint, masked=hits[name]) for name, want in wants.items()}
    return report(
        there.story.want,
        there.story.cluster,
        observed,
        there.site,
        intended,
        None,
        identity="a",
        elapsed=Elapsed(seconds=seconds),
        program="1",
    )


def test_a_mask_is_told_once_it_has_lasted() -> None:
    there = Server(published(story(service(publish=True, servers=("a", "b")), servers=("a", "b")))).calm()
    dead = {"10.0.0.2:8421": "tcp 10.0.0.2:8421: connection refused"}
    fact = facts.dead("10.0.0.2:8421")
    there.overrides["dead"] = dead
    assert fact in facts.current(there.story.cluster, {}, there.observe())
    assert [c for c in told(there, dead, {fact: 29.0}).conditions if c.type == "BackendMasked"] == []
    (condition,) = [c for c in told(there, dead, {fact: 30.0}).conditions if c.type == "BackendMasked"]
    assert condition.service == "shop/prod/web"
    assert "10.0.0.2:8421 on b" in condition.message and "connection refused" in condition.message


def test_what_is_dead_and_cannot_be_passed_over_is_not_told_as_masked() -> None:
    there = Server(published(story(service(publish=True, servers=("a", "b")), servers=("a", "b")))).calm()
    dead = dict.fromkeys((f"{there.box('shop_prod_web').plan.address}:80", "10.0.0.2:8421"), "refused")
    made = told(there, dead, {facts.dead(address): 60.0 for address in dead})
    assert [c for c in made.conditions if c.type == "BackendMasked"] == []
