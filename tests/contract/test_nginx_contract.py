"""The interpreter of nginx's text does what nginx does: the same cases, the same answers, from both."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.model.routes import Listener, NginxConfig, Peer, Route, Upstream
from reconciler.render.nginx import Rendered, render
from tests.contract.nginx_beds import NAME, Answered, Bed, FakeBed, RealBed
from tests.fakes.nginx import Refused
from tests.integration.nginx_rig import variant


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealBed]:
    bed = RealBed(tmp_path / "real")
    yield bed
    bed.stop()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.slow)])
def bed(request: pytest.FixtureRequest) -> Bed:
    found: Bed = FakeBed() if request.param == "fake" else request.getfixturevalue("real")
    return found


@dataclass(frozen=True)
class Way:
    """A public route: `peers` are addresses, a backup's with a `!` in front; none is a service without a live backend."""

    name: str
    path: str = "/"
    peers: tuple[str, ...] = ()
    host: str = "shop.example"
    rewrite: str | None = None


def edge(bed: Bed, *ways: Way, shutdown: float = 60.0) -> NginxConfig:
    """An edge with a route and an upstream for each, on ports that stay the same on a bed."""
    ports = (bed.config.http_ports[0], bed.config.generation_port) if hasattr(bed, "config") else (bed.port(), bed.port())
    return NginxConfig(
        kind="edge",
        name="nginx",
        generation_port=ports[1],
        http_ports=(ports[0],),
        upstreams=tuple({way.name: Upstream(name=f"shop_prod_{way.name}", peers=_peers(way.peers)) for way in ways}.values()),
        routes=tuple(
            Route(
                host=way.host,
                path=way.path,
                rewrite=way.rewrite,
                upstream=f"shop_prod_{way.name}",
                service=f"shop/prod/{way.name}",
            )
            for way in ways
        ),
        shutdown_timeout=shutdown,
    )


def mesh(bed: Bed, listeners: dict[int, tuple[str, ...]], shutdown: float = 60.0) -> NginxConfig:
    """A sidecar with a listener on each port to its peers."""
    generation = bed.config.generation_port if hasattr(bed, "config") else bed.port()
    return NginxConfig(
        kind="sidecar",
        name="nginx",
        generation_port=generation,
        upstreams=tuple(Upstream(name=f"shop_prod_s{port}", peers=_peers(peers)) for port, peers in listeners.items()),
        listeners=tuple(Listener(port=port, upstream=f"shop_prod_s{port}") for port in listeners),
        shutdown_timeout=shutdown,
    )


def _peers(addresses: tuple[str, ...]) -> tuple[Peer, ...]:
    return tuple(Peer(address=address.lstrip("!"), backup=address.startswith("!")) for address in addresses)


def bent(rendered: Rendered, old: str, new: str) -> Rendered:
    """The same text with a mistake in it."""
    assert old in rendered.text
    return Rendered(rendered.text.replace(old, new), rendered.fingerprint)


# Upstreams


def test_every_live_backend_is_reached_and_no_backup(bed: Bed) -> None:
    a, b, c = (bed.backend(name) for name in "abc")
    bed.start(edge(bed, Way("web", peers=(a, b, f"!{c}"))))
    assert bed.reached() == {"a", "b"}


def test_while_one_live_backend_accepts_no_backup_is_asked(bed: Bed) -> None:
    a, b, c = bed.backend("a"), bed.backend("b"), bed.backend("c")
    bed.start(edge(bed, Way("web", peers=(a, b, f"!{c}"))))
    bed.down("a")
    assert bed.reached() == {"b"}


def test_the_backup_answers_when_the_live_one_refuses_connections(bed: Bed) -> None:
    a, b = bed.backend("a"), bed.backend("b")
    bed.start(edge(bed, Way("web", peers=(a, f"!{b}"))))
    bed.down("a")
    assert bed.reached() == {"b"}


def test_a_live_backend_that_is_back_is_asked_at_once(bed: Bed) -> None:
    """Nobody is ejected: `max_fails=0` (NGINX.md, "Upstreams")."""
    a, b = bed.backend("a", up=False), bed.backend("b")
    bed.start(edge(bed, Way("web", peers=(a, f"!{b}"))))
    assert bed.reached() == {"b"}
    bed.up("a")
    assert bed.reached() == {"a"}


def test_with_nobody_there_the_answer_is_502(bed: Bed) -> None:
    a, b = bed.backend("a", up=False), bed.backend("b", up=False)
    bed.start(edge(bed, Way("web", peers=(a, f"!{b}"))))
    assert bed.ask() == Answered(502)


def test_backups_alone_are_the_live_ones(bed: Bed) -> None:
    a, b = bed.backend("a"), bed.backend("b")
    bed.start(edge(bed, Way("web", peers=(f"!{a}", f"!{b}"))))
    assert bed.reached() == {"a", "b"}


def test_a_heavier_peer_does_not_keep_the_lighter_one_from_being_asked(bed: Bed) -> None:
    a, b = bed.backend("a"), bed.backend("b")
    config = edge(bed, Way("web", peers=(a, b)))
    heavy = Upstream(name="shop_prod_web", peers=(Peer(address=a, weight=4), Peer(address=b)))
    bed.start(config.model_copy(update={"upstreams": (heavy,)}))
    assert bed.reached(tries=20) == {"a", "b"}


# Routes


@pytest.fixture
def shop(bed: Bed) -> Bed:
    """Hosts, prefixes and rewrites."""
    web, api, one = bed.backend("web"), bed.backend("api"), bed.backend("one")
    ways = (
        Way("web", "/", (web,)),
        Way("api", "/api", (api,), rewrite="/"),
        Way("one", "/api/v1", (one,)),
        Way("api", "/old", (api,), rewrite="/new"),
        Way("api", "/a.b", (api,), rewrite="/dot"),
        Way("api", "/api", (api,), host="*.shop.example"),
        Way("one", "/", (one,), host="*.deep.shop.example"),
        Way("web", "/only", (web,), host="other.example"),
        Way("gone", "/down", (), host="other.example"),
    )
    bed.start(edge(bed, *ways))
    return bed


@pytest.mark.parametrize(
    ("target", "backend", "uri"),
    [
        ("/", "web", "/"),
        ("/apix", "web", "/apix"),
        ("/api", "api", "/"),
        ("/api/", "api", "/"),
        ("/api/x", "api", "/x"),
        ("/api/x?a=b%2Fc&d=/api", "api", "/x?a=b%2Fc&d=/api"),
        ("/api?a=b&c=%20d", "api", "/?a=b&c=%20d"),
        ("/api/a%2Fb/c", "api", "/a%2Fb/c"),
        ("/api/a%20b%3Fc%25", "api", "/a%20b%3Fc%25"),
        ("/api/v1", "one", "/api/v1"),
        ("/api/v1/x%2Fy?z=1", "one", "/api/v1/x%2Fy?z=1"),
        ("/api/v10", "api", "/v10"),
        ("/old", "api", "/new"),
        ("/old/x%2Fy", "api", "/new/x%2Fy"),
        ("/older", "web", "/older"),
        ("/a.b/c", "api", "/dot/c"),
        ("/a.b", "api", "/dot"),
        ("/axb/c", "web", "/axb/c"),
        ("/%61pi/x", "api", "/x"),
        ("/%61pi/x%20y%C3%A9%22", "api", "/x%20y%C3%A9%22"),
        ("/web/../api/x", "api", "/x"),
        ("/old/x/../y", "api", "/new/y"),
        ("/old/x%2F..%2Fy", "api", "/new/y"),
        ("/api/..", "web", "/api/.."),
        ("/api/v1/..", "api", "/"),
        ("/api/v1/.", "one", "/api/v1/."),
        ("//api//x", "api", "/x"),
        ("/api//x", "api", "//x"),
        ("/API/x", "web", "/API/x"),
        ("/x%", "", ""),
        ("/..", "", ""),
        ("/x%00", "", ""),
    ],
)
def test_the_longest_prefix_gets_the_request_and_the_backend_its_path(shop: Bed, target: str, backend: str, uri: str) -> None:
    assert shop.ask(target) == (Answered(200, backend, uri) if backend else Answered(400))


@pytest.mark.parametrize(
    ("host", "target", "answer"),
    [
        ("SHOP.example", "/", Answered(200, "web", "/")),
        ("shop.example.", "/", Answered(200, "web", "/")),
        ("shop.example:8443", "/", Answered(200, "web", "/")),
        ("any.shop.example", "/api/x", Answered(200, "api", "/api/x")),
        ("more.any.shop.example", "/api", Answered(200, "api", "/api")),
        ("any.shop.example", "/", Answered(404)),
        ("any.deep.shop.example", "/api", Answered(200, "one", "/api")),
        ("deep.shop.example", "/api", Answered(200, "api", "/api")),
        ("unknown.example", "/", Answered(404)),
        ("unknown.example", "/api", Answered(404)),
        ("xshop.example", "/", Answered(404)),
        ("other.example", "/only/x", Answered(200, "web", "/only/x")),
        ("other.example", "/onl", Answered(404)),
        ("other.example", "/down", Answered(503)),
        ("other.example", "/down/below", Answered(503)),
    ],
)
def test_the_host_chooses_the_server(shop: Bed, host: str, target: str, answer: Answered) -> None:
    assert shop.ask(target, host) == answer


def test_a_websocket_goes_where_the_requests_go_and_is_rewritten_the_same(shop: Bed) -> None:
    assert shop.ask("/api/live%2F?a=b", websocket=True) == Answered(101, "api", "/live%2F?a=b")
    assert shop.ask("/api/v1/live", websocket=True) == Answered(101, "one", "/api/v1/live")


def test_without_public_ports_nothing_is_served(bed: Bed) -> None:
    """The generation endpoint alone."""
    config = edge(bed, Way("web", peers=(bed.backend("a"),)))
    public = config.http_ports[0]
    bed.start(config.model_copy(update={"http_ports": ()}))
    assert bed.state().loaded is not None
    assert bed.ask(port=public) == Answered(0)


# The mesh


def test_a_listener_reaches_its_own_upstream(bed: Bed) -> None:
    a, b, one, two = bed.backend("a"), bed.backend("b"), bed.port(), bed.port()
    bed.start(mesh(bed, {one: (a,), two: (b,)}))
    assert (bed.ask(port=one).backend, bed.ask(port=two).backend) == ("a", "b")


def test_a_listener_falls_back_to_the_backup_and_comes_back(bed: Bed) -> None:
    a, b, port = bed.backend("a"), bed.backend("b"), bed.port()
    bed.start(mesh(bed, {port: (a, f"!{b}")}))
    assert bed.reached(port=port) == {"a"}
    bed.down("a")
    assert bed.reached(port=port) == {"b"}
    bed.up("a")
    assert bed.reached(port=port) == {"a"}


def test_a_listener_without_anybody_closes_the_connection(bed: Bed) -> None:
    a, port = bed.backend("a", up=False), bed.port()
    bed.start(mesh(bed, {port: (a,)}))
    assert bed.ask(port=port) == Answered(0)


def test_a_port_without_a_listener_refuses(bed: Bed) -> None:
    port = bed.port()
    bed.start(mesh(bed, {port: ()}))
    assert bed.ask(port=port) == Answered(0)


# Names


def test_a_name_means_what_it_meant_when_it_was_loaded(bed: Bed) -> None:
    first = bed.backend("first")
    bed.backend("second", host="127.0.0.2", port=int(first.rpartition(":")[2]))
    bed.resolves("shop_prod_web", "127.0.0.1")
    config = edge(bed, Way("web", peers=(f"shop_prod_web:{first.rpartition(':')[2]}",)))
    bed.start(config)
    bed.resolves("shop_prod_web", "127.0.0.2")
    assert bed.reached() == {"first"}
    assert bed.switch(render(config.model_copy(update={"shutdown_timeout": 61.0}))).loaded
    assert bed.reached() == {"second"}


def test_a_start_with_an_unknown_name_is_refused(bed: Bed) -> None:
    with pytest.raises(Refused, match=r'\[emerg\].*host not found in upstream "shop_prod_web:80"'):
        bed.start(edge(bed, Way("web", peers=("shop_prod_web:80",))))


def test_one_unknown_name_among_known_ones_refuses_the_whole_text_and_the_old_one_goes_on(bed: Bed) -> None:
    a = bed.backend("a")
    config = edge(bed, Way("web", peers=(a,)))
    bed.start(config)
    before = render(config).fingerprint
    wrong = render(edge(bed, Way("web", peers=(bed.backend("b"),)), Way("api", "/api", ("shop_prod_gone:80",))))
    switched = bed.switch(wrong)
    assert not switched.loaded
    assert 'host not found in upstream "shop_prod_gone:80"' in (switched.state.error or "")
    assert (bed.state().loaded, bed.state().refused) == (before, wrong.fingerprint)
    assert bed.reached() == {"a"}


def test_refusals_are_counted_until_one_is_loaded(bed: Bed) -> None:
    a = bed.backend("a")
    config = edge(bed, Way("web", peers=(a,)))
    bed.start(config)
    wrong = [render(edge(bed, Way("web", peers=(f"shop_prod_gone:{port}",)))) for port in (80, 81)]
    assert [bed.switch(text).state.tries for text in (wrong[0], wrong[0], wrong[1])] == [1, 2, 3]
    assert bed.state().refused == wrong[1].fingerprint
    assert bed.switch(render(edge(bed, Way("web", peers=(a,)), shutdown=61.0))).loaded
    assert (bed.state().tries, bed.state().refused) == (0, None)


def test_the_file_of_a_refused_text_is_the_old_one_and_the_log_says_nothing_of_a_test(bed: Bed) -> None:
    config = edge(bed, Way("web", peers=(bed.backend("a"),)))
    bed.start(config)
    wrong = render(edge(bed, Way("web", peers=("shop_prod_gone:80",))))
    bed.switch(wrong)
    assert render(config).fingerprint in (bed.adapter().read(NAME) or "")
    assert bed.adapter().complaint(NAME) is None
    bed.adapter().write(NAME, wrong.text)
    assert wrong.fingerprint in (bed.adapter().read(NAME) or "")
    assert bed.state().refused is None
    bed.adapter().forget(NAME)
    assert bed.adapter().read(NAME) is None


def test_a_refused_start_has_left_its_complaint(bed: Bed) -> None:
    config = edge(bed, Way("web", peers=("shop_prod_web:80",)))
    with pytest.raises(Refused):
        bed.start(config)
    assert 'host not found in upstream "shop_prod_web:80"' in (bed.adapter().complaint(NAME) or "")


def test_the_name_of_a_backup_has_to_resolve_too(bed: Bed) -> None:
    with pytest.raises(Refused, match="host not found"):
        bed.start(edge(bed, Way("web", peers=(bed.backend("a"), "!shop_prod_gone:80"))))


def test_a_refused_text_is_loaded_once_its_name_is_known(bed: Bed) -> None:
    a = bed.backend("a")
    bed.start(edge(bed, Way("web", peers=(a,))))
    b = bed.backend("b")
    later = render(edge(bed, Way("web", peers=(f"shop_prod_web:{b.rpartition(':')[2]}",))))
    assert not bed.switch(later).loaded
    bed.resolves("shop_prod_web", "127.0.0.1")
    assert bed.switch(later).loaded
    assert bed.reached() == {"b"}
    assert (bed.state().refused, bed.state().error) == (None, None)


# Refusals by nginx itself


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (" max_fails=0;", " max_fails=0 backup;", r"no servers in upstream|no servers are inside upstream"),
        ("        location / {", "        location / {\n        }\n        location / {", "duplicate location"),
        ("upstream shop_prod_web {", "upstream shop_prod_web { server [::]:1 max_fails=0; } upstream shop_prod_web {", "duplicate"),
        ("proxy_pass http://shop_prod_web", "proxy_pass http://shop_prod_api", "host not found in upstream"),
        ("daemon off;", "daemon off; }", 'unexpected "}"'),
        ("daemon off;", "; daemon off;", 'unexpected ";"'),
        ("events {", "events", 'directive "events" has no opening "{"'),
    ],
)  # fmt: skip
def test_a_text_that_nginx_does_not_load_is_refused(bed: Bed, old: str, new: str, words: str) -> None:
    config = edge(bed, Way("web", peers=(bed.backend("a"),)))
    with pytest.raises(Refused, match=words):
        bed.start(config, bent(render(config), old, new).text)


def test_of_two_listeners_on_one_port_the_first_has_it(bed: Bed) -> None:
    """nginx's streams have virtual servers too, and all of ours have the same (empty) name."""
    port, other = sorted((bed.port(), bed.port()))
    config = mesh(bed, {port: (bed.backend("a"),), other: (bed.backend("b"),)})
    bed.start(config, bent(render(config), f":{other};", f":{port};").text)
    assert bed.reached(port=port) == {"a"}


def test_a_listener_on_the_port_of_the_generation_endpoint_is_refused(bed: Bed) -> None:
    port = bed.port()
    config = mesh(bed, {port: (bed.backend("a"),)})
    with pytest.raises(Refused, match=r"bind\(\) to \S+ failed \(98"):
        bed.start(config, bent(render(config), f":{port};", f":{config.generation_port};").text)


# Reloads


def test_the_generation_endpoint_answers_the_new_fingerprint_after_a_switch(bed: Bed) -> None:
    config = edge(bed, Way("web", peers=(bed.backend("a"),)))
    bed.start(config)
    assert bed.state().loaded == render(config).fingerprint
    other = render(edge(bed, Way("web", peers=(bed.backend("b"),))))
    switched = bed.switch(other)
    assert switched.loaded
    assert switched.verified_ms is not None
    assert bed.state().loaded == switched.state.loaded == other.fingerprint
    assert bed.reached() == {"b"}


def test_a_switch_to_the_same_text_is_one_too(bed: Bed) -> None:
    config = edge(bed, Way("web", peers=(bed.backend("a"),)))
    bed.start(config)
    assert bed.switch(render(config)).loaded
    assert bed.state().loaded == render(config).fingerprint


def test_a_connection_from_before_the_switch_is_served_by_the_old_configuration(bed: Bed) -> None:
    """NGINX.md: never stop the old slot on a timer."""
    a, b = bed.backend("a"), bed.backend("b")
    bed.start(edge(bed, Way("web", peers=(a,))))
    held = bed.hold()
    assert bed.switch(render(edge(bed, Way("web", peers=(b,))))).loaded
    assert bed.state().old_workers == 1
    assert bed.reached() == {"b"}
    assert held.ask() == Answered(200, "a", "/")
    bed.wait(lambda: bed.state().old_workers == 0, 5, "the old worker is gone")


def test_an_old_configuration_uses_its_own_backup(bed: Bed) -> None:
    """DESIGN section 4, rule 4: whoever is stale still reaches whichever slot is alive."""
    a, b = bed.backend("a"), bed.backend("b")
    bed.start(edge(bed, Way("web", peers=(a, f"!{b}"))))
    held = bed.hold()
    assert bed.switch(render(edge(bed, Way("web", peers=(b,))))).loaded
    bed.down("a")
    assert held.ask() == Answered(200, "b", "/")


def test_an_old_configuration_without_a_backup_has_nobody_when_its_backend_goes(bed: Bed) -> None:
    a, b = bed.backend("a"), bed.backend("b")
    bed.start(edge(bed, Way("web", peers=(a,))))
    held = bed.hold()
    assert bed.switch(render(edge(bed, Way("web", peers=(b,))))).loaded
    bed.down("a")
    assert held.ask() == Answered(502)


def test_without_connections_the_old_workers_go_by_themselves(bed: Bed) -> None:
    bed.start(edge(bed, Way("web", peers=(bed.backend("a"),))))
    bed.switch(render(edge(bed, Way("web", peers=(bed.backend("b"),)))))
    bed.wait(lambda: bed.state().old_workers == 0, 5, "the old workers are gone")


def test_a_client_that_leaves_lets_the_old_worker_go(bed: Bed) -> None:
    bed.start(edge(bed, Way("web", peers=(bed.backend("a"),))))
    held = bed.websocket()
    bed.switch(render(edge(bed, Way("web", peers=(bed.backend("b"),)))))
    assert bed.state().old_workers == 1
    held.close()
    bed.wait(lambda: bed.state().old_workers == 0, 5, "the old worker is gone")


def test_a_websocket_stays_with_its_backend_until_the_shutdown_timeout_cuts_it(bed: Bed) -> None:
    bed.start(edge(bed, Way("web", peers=(bed.backend("a"),)), shutdown=8.0))  # a loaded machine needs seconds for what follows
    held = bed.websocket()
    assert bed.switch(render(edge(bed, Way("web", peers=(bed.backend("b"),)), shutdown=60.0))).loaded
    assert held.ask().backend == "a"
    bed.wait(lambda: bed.state().old_workers == 0, 12, "the old worker is cut, by its own timeout")
    assert held.ask() == Answered(0)


def test_a_connection_of_the_mesh_stays_with_its_backend_through_a_switch(bed: Bed) -> None:
    a, b, port = bed.backend("a"), bed.backend("b"), bed.port()
    bed.start(mesh(bed, {port: (a,)}))
    held = bed.hold(port)
    assert bed.switch(render(mesh(bed, {port: (b,)}))).loaded
    assert bed.ask(port=port).backend == "b"
    assert held.ask().backend == "a"


def test_a_listener_that_is_no_longer_wanted_is_gone_after_the_switch(bed: Bed) -> None:
    a, kept, dropped = bed.backend("a"), bed.port(), bed.port()
    bed.start(mesh(bed, {kept: (a,), dropped: (a,)}))
    assert bed.ask(port=dropped).backend == "a"
    assert bed.switch(render(mesh(bed, {kept: (a,)}))).loaded
    assert bed.ask(port=dropped) == Answered(0)
    assert bed.ask(port=kept).backend == "a"


def test_several_reloads_with_a_websocket_each_leave_a_worker_each(bed: Bed) -> None:
    bed.start(edge(bed, Way("web", peers=(bed.backend("b0"),))))
    held = []
    for number in range(1, 4):
        held.append(bed.websocket())
        assert bed.switch(render(edge(bed, Way("web", peers=(bed.backend(f"b{number}"),))))).loaded
    assert [client.ask().backend for client in held] == ["b0", "b1", "b2"]
    assert bed.state().old_workers == 3


def test_a_zone_that_grows_under_its_name_is_loaded(bed: Bed) -> None:
    """nginx refuses one whose key changes (NGINX.md); an upstream's zone has none, and is made anew with the size."""
    config = edge(bed, Way("web", peers=(bed.backend("a"),)))
    bed.start(config)
    assert bed.switch(variant(render(config), 1, (" 64k;", " 128k;"))).loaded
    assert bed.state().loaded == f"{1:016x}"
    assert bed.reached() == {"a"}


# Generated configurations


def _generated(seed: int) -> tuple[list[Way], list[str], list[str]]:
    """Routes over five backends, those of them that are down, and requests."""
    rng = random.Random(seed)
    names = ["a", "b", "c", "d", "e"]
    segments = ["api", "api-v1", "v1", "x", "a.b", "x_y"]
    ways: dict[tuple[str, str], Way] = {}
    services: dict[str, tuple[str, ...]] = {}
    for _ in range(rng.randint(1, 8)):
        host = rng.choice(["shop.example", "*.shop.example", "www.shop.example", "_", "other.example"])
        path = "/" + "/".join(rng.choice(segments) for _ in range(rng.choice((0, 1, 1, 2))))
        rewrite = rng.choice([None, None, "/", "/new", "/new/deep"])
        service = rng.choice(["web", "api", "one", "none"])
        chosen = rng.sample(names, rng.randint(1, 3))
        peers = tuple(f"{'!' if number and rng.random() < 0.6 else ''}{name}" for number, name in enumerate(chosen))
        services.setdefault(service, peers if service != "none" else ())
        ways[host, path] = Way(service, path, services[service], host, rewrite)
    down = rng.sample(names, rng.choice((0, 1, 2, 3)))
    targets = []
    for _ in range(14):
        parts = [rng.choice([*segments, "x%2Fy", "a%20b", "..", ".", "", "apiz"]) for _ in range(rng.randint(0, 3))]
        targets.append("/" + "/".join(parts) + rng.choice(["", "", "/", "?q=1%2F2"]))
    return list(ways.values()), down, targets


HOSTS = ("shop.example", "www.shop.example", "any.shop.example", "other.example", "nobody.example")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(36))
def test_a_generated_configuration_sends_each_request_to_the_same_backend(real: RealBed, seed: int) -> None:
    ways, down, targets = _generated(seed)
    beds: tuple[Bed, Bed] = (FakeBed(), real)
    for bed in beds:
        addresses = {name: bed.backend(name, up=name not in down) for name in "abcde"}

        def placed(peer: str, addresses: dict[str, str] = addresses) -> str:
            return peer[0] * peer.startswith("!") + addresses[peer.lstrip("!")]

        bed.start(edge(bed, *(Way(w.name, w.path, tuple(map(placed, w.peers)), w.host, w.rewrite) for w in ways)))
    rng = random.Random(seed)
    for target in targets:
        host = rng.choice(HOSTS)
        said: list[set[Answered]] = [{bed.ask(target, host) for _ in range(6)} for bed in beds]
        assert said[0] == said[1], f"{host}{target}: interpreted {said[0]}, nginx {said[1]}\n{render(real.config).text}"
