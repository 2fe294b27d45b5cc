"""plan: the edge, the host listener, reloads, and what stands in the configurations."""

from __future__ import annotations

import pytest

from reconciler.model.action import ConnectNetwork, Reload, RemoveInstance, StartNginx
from reconciler.model.identity import ServiceKey
from reconciler.model.routes import NginxConfig, Upstream
from reconciler.plan import facts
from reconciler.plan.nginxes import configs, serves
from reconciler.plan.routes import host_collisions
from reconciler.render.nginx import render
from tests.plan.build import Story, desired, key, service, story
from tests.plan.server import Server

PUBLIC = service(public=True)


def config(there: Server, name: str) -> NginxConfig:
    """What an nginx should have."""
    assert there.story.cluster is not None
    return configs(there.story.want, there.story.cluster, there.observe(), there.site)[name]


def upstream(there: Server, nginx: str, name: str = "shop_prod_web") -> Upstream | None:
    """An upstream of an nginx's configuration."""
    return next((u for u in config(there, nginx).upstreams if u.name == name), None)


def test_no_edge_is_made_where_nothing_is_public() -> None:
    there = Server(story(service())).calm()
    assert {box.plan.name for box in there.boxes.boxes.values()} == {"shop_prod_web", "nginx_host"}


def test_the_edge_comes_with_the_first_public_service_and_goes_with_the_last() -> None:
    there = Server(story(PUBLIC)).calm()
    assert there.box("nginx").plan.network == "shop_prod_network"
    there.story.commit(service(), revision=2).settle()
    there.calm()
    assert all(box.plan.name != "nginx" for box in there.boxes.boxes.values())


@pytest.mark.parametrize(("name", "change"), [("nginx", {"public": ()}), ("nginx_host", {})])
def test_an_nginx_that_goes_takes_its_configuration_with_it(name: str, change: dict[str, object]) -> None:
    there = Server(story(PUBLIC)).calm()
    if change:
        there.story.commit(PUBLIC.model_copy(update=change), revision=2).settle()
    else:
        there.site = there.site.model_copy(update={"host_listener": False})
    (gone,) = (a for a in there.plan() if isinstance(a, RemoveInstance))
    assert (gone.name, gone.nginx) == (name, name)


def test_the_edge_routes_to_a_service_that_runs_elsewhere() -> None:
    """A server without an instance of the project makes the network for its edge itself, and can acknowledge."""
    there = Server(story(service(public=True, publish=True, servers=("b",)), servers=("a", "b"))).calm()
    observed = there.observe()
    assert there.box("nginx").status == "running"
    assert serves(there.intended(observed), observed)


def test_an_edge_that_ended_is_replaced() -> None:
    """FAULTS 23."""
    there = Server(story(PUBLIC)).calm()
    there.stop("nginx")
    (start,) = there.plan()
    assert isinstance(start, StartNginx) and start.replaces == (there.box("nginx").id,)


def test_an_edge_joins_another_project_without_being_replaced() -> None:
    other = service().model_copy(update={"key": ServiceKey("aaa", "prod", "web"), "public": PUBLIC.public})
    there = Server(story(PUBLIC)).calm()
    identity = there.box("nginx").id
    there.story.commit(PUBLIC, other, revision=2).settle()
    joined = [a for _ in range(4) for a in there.carry_out() if isinstance(a, ConnectNetwork)]
    assert [a.network for a in joined] == ["aaa_prod_network"]
    there.calm()
    assert there.box("nginx").id == identity
    there.story.commit(other, revision=3, allow=("shop",)).settle()
    there.calm()
    assert there.box("nginx").id == identity


def test_a_foreign_container_named_like_the_edge_is_told_and_left_alone() -> None:
    there = Server(story(PUBLIC))
    there.overrides["foreign"] = frozenset({"nginx"})
    for _ in range(5):
        there.carry_out()
    assert not any(isinstance(a, StartNginx) for a in there.plan())
    told = there.report()
    assert "ForeignContainer" in {condition.reason for condition in told.conditions}


def test_nothing_is_reloaded_when_everything_is_loaded() -> None:
    there = Server(story(PUBLIC, service("api", sidecar=True))).calm()
    assert there.plan() == ()


def test_one_reload_brings_every_nginx_up_to_date() -> None:
    """FAULTS 26."""
    there = Server(story(PUBLIC, service("api", sidecar=True))).calm()
    for name in ("nginx", "nginx_host", "shop_prod_api_sidecar"):
        there.nginx(name, loaded="older")
    (only,) = there.plan()
    assert isinstance(only, Reload)
    assert [c.name for c in only.configs] == ["nginx", "nginx_host", "shop_prod_api_sidecar"]


def test_what_is_loaded_counts_and_not_what_was_written() -> None:
    """FAULTS 21."""
    there = Server(story(PUBLIC)).calm()
    there.nginx("nginx", loaded=None)
    assert there.kinds() == ["reload"]


@pytest.mark.parametrize(("tries", "since", "kinds"), [(1, 9.0, []), (1, 10.0, ["reload"]), (2, 10.0, []), (2, 20.0, ["reload"])])
def test_a_refused_text_is_tried_again_after_a_while_that_grows(tries: int, since: float, kinds: list[str]) -> None:
    there = Server(story(PUBLIC)).calm()
    intended = there.intended(there.observe())["nginx"].fingerprint
    there.nginx("nginx", loaded="older", refused=intended, error="emerg", tries=tries)
    fact = facts.refused(there.observe().nginx["nginx"])
    assert fact in facts.current(there.story.cluster, {}, there.observe())
    there.elapsed = {fact: since}
    assert there.kinds() == kinds


def test_a_server_acknowledges_when_everything_is_loaded_and_nothing_else_runs() -> None:
    there = Server(story(PUBLIC)).calm()
    observed = there.observe()
    intended = there.intended(observed)
    assert serves(intended, observed)
    assert not serves({name: want for name, want in intended.items() if name != "nginx_host"}, observed)
    there.nginx("nginx", loaded="older")
    assert not serves(intended, there.observe())


def test_a_text_that_was_loaded_beside_workers_that_go_on_accepting_is_not_what_is_served() -> None:
    there = Server(story(PUBLIC)).calm()
    intended = there.intended(there.observe())
    there.nginx("nginx", loaded=intended["nginx"].fingerprint, refused=intended["nginx"].fingerprint, error="old workers", tries=1)
    assert not serves(intended, there.observe())
    there.elapsed = {facts.refused(there.observe().nginx["nginx"]): 10.0}
    assert there.kinds() == ["reload"]


def test_a_live_instance_is_listed_by_name_with_the_other_slot_behind_it() -> None:
    there = Server(story(PUBLIC)).calm()
    pair = there.box("shop_prod_web").plan.labels.addresses
    found = upstream(there, "nginx")
    assert pair is not None and found is not None
    assert [(p.address, p.backup) for p in found.peers] == [("shop_prod_web:80", False), (f"{pair[1]}:80", True)]
    host = upstream(there, "nginx_host")
    assert host is not None
    assert [(p.address, p.backup) for p in host.peers] == [(f"{pair[0]}:80", False), (f"{pair[1]}:80", True)]


def test_after_the_toggle_the_peers_have_changed_places() -> None:
    there = Server(story(PUBLIC)).calm()
    pair = there.box("shop_prod_web").plan.labels.addresses
    there.story.commit(service(digest="x2", public=True), revision=2).settle()
    there.calm()
    found = upstream(there, "nginx")
    assert pair is not None and found is not None
    assert [(p.address, p.backup) for p in found.peers] == [("shop_prod_web_secondary:80", False), (f"{pair[0]}:80", True)]


def test_a_name_that_does_not_resolve_is_never_written() -> None:
    """FAULTS 22."""
    there = Server(story(PUBLIC)).calm()
    pair = there.box("shop_prod_web").plan.labels.addresses
    there.stop("shop_prod_web")
    found = upstream(there, "nginx")
    assert pair is not None and found is not None
    assert found.peers[0].address == f"{pair[0]}:80"


def test_a_recreate_service_has_nothing_behind_it() -> None:
    there = Server(story(service(recreate=True, public=True))).calm()
    found = upstream(there, "nginx")
    assert found is not None and [p.backup for p in found.peers] == [False]


def test_a_public_service_that_is_not_live_yet_has_a_route_to_nobody() -> None:
    told = story(service("api", "y1"))
    told.commit(service("api", "y1"), PUBLIC, revision=2).decide()
    (route,) = config(Server(told), "nginx").routes
    assert (route.host, route.upstream) == ("web.example", None)


@pytest.mark.parametrize(
    ("needs", "found"), [(None, {"shop_prod_web", "shop_prod_db"}), (("db",), {"shop_prod_db"}), ((), set[str]())]
)
def test_a_sidecar_listens_for_what_is_needed(needs: tuple[str, ...] | None, found: set[str]) -> None:
    there = Server(story(service(), service("db"), service("api", "y1", sidecar=True, needs=needs))).calm()
    assert {u.name for u in config(there, "shop_prod_api_sidecar").upstreams} == found


def _two_servers() -> Story:
    """web is public and live on a and b."""
    return _published(story(service(publish=True, public=True, servers=("a", "b")), servers=("a", "b")))


FORWARDED = [("10.0.0.1:8421", False), ("10.0.0.2:8421", False), ("10.0.0.1:18421", True), ("10.0.0.2:18421", True)]


def peers(there: Server, nginx: str = "nginx") -> list[tuple[str, bool]]:
    """Address and `backup` of each peer of web."""
    found = upstream(there, nginx)
    assert found is not None
    return [(p.address, p.backup) for p in found.peers]


@pytest.mark.parametrize("sidecar", [False, True])
@pytest.mark.parametrize("nginx", ["nginx", "nginx_host", "shop_prod_api_sidecar"])
def test_of_several_servers_one_reaches_its_own_instances_at_their_addresses_and_others_by_published_ports(
    nginx: str, sidecar: bool
) -> None:
    """Docker's forwarder would accept a connection to an own published port although nobody listens behind it (decision 0011)."""
    web = service(publish=True, public=True, servers=("a", "b"), sidecar=sidecar)
    there = Server(_published(story(web, service("api", "y1", sidecar=True), servers=("a", "b")))).calm()
    pair = there.observe().pair(key(), 1)
    assert pair is not None
    assert peers(there, nginx) == [
        (f"{pair[0]}:80", False),
        ("10.0.0.2:8421", False),
        (f"{pair[1]}:80", True),
        ("10.0.0.2:18421", True),
    ]


def test_an_edge_that_is_not_on_the_projects_network_reaches_an_own_instance_by_its_published_port_until_it_has_joined() -> None:
    there = Server(_two_servers()).calm()
    joined = peers(there)
    assert joined != FORWARDED
    there.box("nginx").networks = ("other_network",)
    assert peers(there) == FORWARDED and peers(there, "nginx_host") == joined
    assert "connect_network" in there.kinds()
    loaded = there.calm().box("nginx").loaded
    assert peers(there) == joined and loaded is not None and loaded.text == render(config(there, "nginx")).text


def test_an_own_instance_that_is_gone_keeps_its_address_and_no_nginx_is_reloaded_for_it() -> None:
    there = Server(_two_servers()).calm()
    before = peers(there)
    there.remove("shop_prod_web")
    assert peers(there) == before
    assert "Reload" not in {type(action).__name__ for action in there.plan()}


def test_an_own_instance_that_is_gone_without_an_address_that_is_known_is_left_out_until_it_is_back() -> None:
    """Its containers are gone, and the daemon has been started since: its host port may be anybody's by now."""
    there = Server(_two_servers())
    assert peers(there) == [("10.0.0.2:8421", False), ("10.0.0.2:18421", True)]
    there.calm()
    assert len(peers(there)) == 4


def test_an_own_instance_that_was_made_without_an_address_is_reached_by_its_published_port() -> None:
    there = Server(_two_servers()).calm()
    observed = there.observe()
    bare = tuple(c.model_copy(update={"labels": c.labels.model_copy(update={"addresses": None})}) for c in observed.containers)
    there.overrides["containers"] = bare
    assert peers(there) == FORWARDED


def test_an_own_instance_of_which_nobody_knows_where_it_listens_is_reached_by_its_published_port() -> None:
    there = Server(_two_servers()).calm()
    told = there.story
    state = told.state()
    backends = tuple(b.model_copy(update={"container_port": None, "spec": "x0"}) for b in state.backends)
    assert told.cluster is not None
    services = {**told.cluster.services, "shop/prod/web": state.model_copy(update={"backends": backends})}
    told.cluster = told.cluster.model_copy(update={"services": services})
    assert peers(there) == FORWARDED


def _published(told: Story, port: int = 8421) -> Story:
    """The decision as it is once every backend of web has its host port."""
    assert told.cluster is not None
    state = told.state()
    ports = tuple(b.model_copy(update={"port": port}) for b in state.backends)
    services = {**told.cluster.services, "shop/prod/web": state.model_copy(update={"backends": ports})}
    told.cluster = told.cluster.model_copy(update={"services": services})
    return told


def _zoned(told: Story, **zones: str) -> Story:
    servers = {name: entry.model_copy(update={"zone": zones[name]}) for name, entry in told.want.servers.items()}
    told.want = told.want.model_copy(update={"servers": servers})
    return told


def test_backends_of_other_zones_stand_behind_those_of_the_servers_own() -> None:
    told = _published(story(service(publish=True, public=True, servers=("a", "b", "c")), servers=("a", "b", "c")))
    there = Server(_zoned(told, a="lon1", b="lon1", c="ams2")).calm()
    found, pair = upstream(there, "nginx"), there.observe().pair(key(), 1)
    assert found is not None and pair is not None
    assert [(p.address, p.backup, p.live) for p in found.peers] == [
        (f"{pair[0]}:80", False, False),
        ("10.0.0.2:8421", False, False),
        ("10.0.0.3:8421", True, True),
        (f"{pair[1]}:80", True, False),
        ("10.0.0.2:18421", True, False),
        ("10.0.0.3:18421", True, False),
    ]


def test_where_the_own_zone_has_no_backend_those_of_other_zones_are_primaries() -> None:
    told = _published(story(service(publish=True, public=True, servers=("b", "c")), servers=("a", "b", "c")))
    found = upstream(Server(_zoned(told, a="lon1", b="ams2", c="fra3")), "nginx")
    assert found is not None
    assert [p.address for p in found.peers if not p.backup] == ["10.0.0.2:8421", "10.0.0.3:8421"]


def test_a_place_that_goes_from_one_service_to_another_has_one_route_at_any_time() -> None:
    """Rendered twice it would be refused, and with it the routes of all the others."""
    there = Server(story(service(public=True))).calm()
    taker = service("api", "y1").model_copy(update={"public": PUBLIC.public})
    there.story.commit(service(digest="x2"), taker, revision=2).decide()
    (route,) = config(there, "nginx").routes
    assert route.service == "shop/prod/web"  # it still has the live backend
    assert render(config(there, "nginx")).text
    there.story.settle()
    there.calm()
    (route,) = config(there, "nginx").routes
    assert (route.service, route.upstream) == ("shop/prod/api", "shop_prod_api")


def test_of_two_live_services_the_one_that_the_config_names_has_the_place() -> None:
    both = (service("api", "y1"), service(public=True))
    there = Server(story(*both)).calm()
    taker = both[0].model_copy(update={"public": PUBLIC.public})
    there.story.commit(taker, service(digest="x2"), revision=2).decide()
    (route,) = config(there, "nginx").routes
    assert route.service == "shop/prod/api"


def test_on_the_hosts_loopback_the_first_by_name_has_the_port() -> None:
    there = Server(story(service("api", "y1", internal_port=5432), service(internal_port=5432))).calm()
    assert [listener.upstream for listener in config(there, "nginx_host").listeners] == ["shop_prod_api"]
    assert there.story.cluster is not None
    assert host_collisions(there.story.cluster, there.observe()) == {str(key()): (5432, "shop/prod/api")}


def test_a_server_out_of_the_inventory_is_reached_until_its_service_lives_elsewhere() -> None:
    """Taking it out is a move like any other: make before break."""
    there = Server(story(service(publish=True, servers=("b",)), servers=("a", "b")))
    told = there.story
    assert told.cluster is not None
    state = told.state()
    published = tuple(backend.model_copy(update={"port": 8421}) for backend in state.backends)
    moved = state.model_copy(update={"backends": published})
    told.cluster = told.cluster.model_copy(update={"services": {"shop/prod/web": moved}})
    told.want = desired(service(publish=True, servers=("a",)), revision=2, servers=("a",))
    told.decide()
    told.decide()
    assert told.slots("staged") == ["a primary x1"]
    assert config(there, "nginx_host").upstreams[0].peers[0].address == "10.0.0.2:8421"


def test_what_the_decision_does_not_list_has_no_vote() -> None:
    """After a rebuild from an older copy a rollout may get the identity of one before it, whose instance is still there."""
    there = Server(story(service())).calm()
    assert there.story.cluster is not None
    there.story.cluster = there.story.cluster.model_copy(update={"services": {}})
    made = there.report()
    assert [(entry.phase, entry.rollout) for entry in made.instances] == [("failed", None)]


def test_two_own_services_with_one_port_on_the_hosts_loopback_are_warned_of_by_name() -> None:
    there = Server(story(service("api", "y1", internal_port=5432), service(internal_port=5432))).calm()
    made = there.report()
    (warning,) = [condition for condition in made.conditions if condition.reason == "PortInUse"]
    assert (warning.type, warning.status, warning.service) == ("Warning", True, "shop/prod/web")
    assert "127.0.0.1:5432" in warning.message and "shop/prod/api" in warning.message
