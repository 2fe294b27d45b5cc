"""`render.nginx`: deterministic text, exactly the intended directives, and nothing hostile ever in it."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import Stalled
from reconciler.model.routes import Listener, NginxConfig, Peer, Route, Upstream
from reconciler.render.nginx import render
from reconciler.render.parsed import SETTINGS, check

API = Upstream(name="shop_prod_api", peers=(Peer(address="shop_prod_api:8000"), Peer(address="10.213.0.12:8000", backup=True)))
WEB = Upstream(name="shop_prod_web", peers=(Peer(address="shop_prod_web:80"),))
EMPTY = Upstream(name="shop_prod_gone", peers=())


def route(path: str = "/", upstream: str | None = "shop_prod_api", host: str = "shop.example", rewrite: str | None = None) -> Route:
    return Route(host=host, path=path, rewrite=rewrite, upstream=upstream, service="shop/prod/api")


def edge(*routes: Route, upstreams: tuple[Upstream, ...] = (API, WEB)) -> NginxConfig:
    return NginxConfig(kind="edge", name="nginx", generation_port=4999, http_ports=(80,), upstreams=upstreams, routes=routes)


def sidecar(*listeners: Listener, upstreams: tuple[Upstream, ...] = (API, WEB, EMPTY)) -> NginxConfig:
    return NginxConfig(kind="sidecar", name="shop_prod_web_sidecar", generation_port=4999, upstreams=upstreams, listeners=listeners)


def test_the_order_of_what_is_given_changes_no_byte() -> None:
    routes = (route(), route("/api", rewrite="/"), route("/v1", rewrite="/v2"), route(host="_", upstream=None))
    texts = {
        render(edge(*order, upstreams=upstreams)).text
        for order in itertools.permutations(routes)
        for upstreams in itertools.permutations((API, WEB))
    }
    assert len(texts) == 1
    backwards = API.model_copy(update={"peers": API.peers[::-1]})
    assert render(edge(route(), upstreams=(backwards,))) == render(edge(route(), upstreams=(API,)))


def test_the_text_holds_its_fingerprint_and_every_change_makes_another_one() -> None:
    first = render(sidecar(Listener(port=5310, upstream="shop_prod_api")))
    assert re.fullmatch("[0-9a-f]{16}", first.fingerprint)
    assert f'return 200 "{first.fingerprint}";' in first.text
    second = render(sidecar(Listener(port=5311, upstream="shop_prod_api")))
    assert second.fingerprint != first.fingerprint


def test_a_sidecar_without_listeners_still_answers_its_generation() -> None:
    text = render(sidecar()).text
    assert "listen 127.0.0.1:4999;" in text
    assert "stream" not in text
    assert "upstream" not in text


def test_listeners_are_on_loopback_only() -> None:
    text = render(sidecar(Listener(port=5310, upstream="shop_prod_api"), Listener(port=5311, upstream="shop_prod_web"))).text
    listens = re.findall(r"listen (\S+?);", text)
    assert listens == ["127.0.0.1:4999", "127.0.0.1:5310", "127.0.0.1:5311"]


def test_a_listener_to_an_upstream_without_peers_is_left_out() -> None:
    text = render(sidecar(Listener(port=5310, upstream="shop_prod_gone"), Listener(port=5311, upstream="shop_prod_api"))).text
    assert "5310" not in text
    assert "shop_prod_gone" not in text
    assert "127.0.0.1:5311" in text


def test_a_route_without_a_live_backend_answers_503_with_retry_after() -> None:
    for config in (edge(route(upstream=None)), edge(route(upstream="shop_prod_gone"), upstreams=(EMPTY,))):
        text = render(config).text
        assert 'return 503 "shop/prod/api has no live backend' in text
        assert "add_header Retry-After 5 always;" in text
        assert "proxy_pass" not in text


def test_peers_are_never_ejected_and_backups_are_marked() -> None:
    text = render(edge(route())).text
    assert "server shop_prod_api:8000 max_fails=0;" in text
    assert "server 10.213.0.12:8000 max_fails=0 backup;" in text


def test_backups_alone_become_the_live_peers_because_nginx_loads_no_upstream_of_backups() -> None:
    only = Upstream(name="shop_prod_api", peers=(Peer(address="10.213.0.12:8000", backup=True),))
    assert "server 10.213.0.12:8000 max_fails=0;" in render(edge(route(), upstreams=(only,))).text


def test_names_are_resolved_at_load_only() -> None:
    """NGINX.md: `resolve` has no peers after a reload until DNS answers."""
    assert "resolve" not in render(edge(route(), route("/api", rewrite="/"))).text


def test_a_zone_of_another_size_has_another_name() -> None:
    """NGINX.md: `nginx -t` passes and the reload is refused when a zone's size changed under its name."""
    many = Upstream(name="shop_prod_api", peers=tuple(Peer(address=f"10.0.0.{n}:8000") for n in range(1, 101)))
    zones = [re.findall(r"zone (\S+) (\S+);", render(edge(route(), upstreams=(group,))).text) for group in (API, many)]
    (small,), (large,) = zones
    assert small[0] != large[0]
    assert small[1] != large[1]


@pytest.mark.parametrize(
    "directive",
    [
        "keepalive_min_timeout 5s;",
        "worker_shutdown_timeout 60000ms;",
        "client_header_timeout 10s;",
        "lingering_timeout 1s;",
        "proxy_connect_timeout 1s;",
        "proxy_http_version 1.1;",
        "proxy_next_upstream error timeout;",
        "client_max_body_size 0;",
        "keepalive 32;",
        "keepalive_timeout 1s;",
    ],
)
def test_every_remedy_is_written_out_and_not_left_to_the_defaults(directive: str) -> None:
    """FAULTS 28: an nginx of another version has other defaults."""
    assert directive in render(edge(route())).text


def test_an_unknown_host_gets_404_from_the_default_server() -> None:
    text = render(edge(route())).text
    default = text.index("listen 80 default_server;")
    assert text.index('return 404 "nothing is served here', default) < text.index("server_name shop.example;")


def test_both_contexts_have_zones_of_their_own() -> None:
    config = edge(route()).model_copy(update={"listeners": (Listener(port=5310, upstream="shop_prod_api"),)})
    zones = re.findall(r"zone (\S+) ", render(config).text)
    assert len(zones) == len(set(zones)) == 2


HOSTILE = st.one_of(
    st.sampled_from(
        [
            "a;b", "a b", "a\nb", "a\r\nb", 'a"b', "a'b", "a{b", "a}b", "a$b", "a#b", "a\\b", "a\tb", "a\x00b", "${x}", "a%0ab",
            "é", "a; } location / { return 200 x; } #", "\u2028", "a`b", "a|b", "a(b)", "a^b", "a@b", "a,b", "a?b", "A\n", "",
        ]
    ),
    st.text(min_size=1, max_size=20).filter(lambda text: re.search(r"[^A-Za-z0-9_.:/~*+=-]", text) is not None),
)  # fmt: skip


@given(HOSTILE, st.sampled_from(["host", "path", "rewrite", "service", "upstream", "peer", "listener", "name"]))
def test_no_hostile_string_is_ever_rendered(hostile: str, field: str) -> None:
    """FAULTS 51: nginx injection through host, path or service name."""
    config = edge(route("/api", rewrite="/"))
    first = config.routes[0]
    changes: dict[str, NginxConfig] = {
        "host": edge(first.model_copy(update={"host": hostile})),
        "path": edge(first.model_copy(update={"path": f"/{hostile or ';'}"})),
        "rewrite": edge(first.model_copy(update={"rewrite": f"/{hostile or ';'}"})),
        "service": edge(first.model_copy(update={"service": f"shop/prod/{hostile}"})),
        "upstream": edge(route(upstream=hostile), upstreams=(Upstream(name=hostile, peers=API.peers),)),
        "peer": edge(route(), upstreams=(Upstream(name="shop_prod_api", peers=(Peer(address=f"{hostile}:80"),)),)),
        "listener": sidecar(Listener(port=5310, upstream=hostile), upstreams=(Upstream(name=hostile, peers=API.peers),)),
        "name": sidecar().model_copy(update={"name": hostile}),
    }
    with pytest.raises(Stalled, match="nginx configuration"):
        render(changes[field])


@pytest.mark.parametrize(
    "config",
    [
        edge(route("/api"), route("/api/")),
        edge(route("/../x")),
        edge(route("api")),
        edge(route(upstream="unknown")),
        edge(route(), upstreams=(API, API)),
        sidecar(Listener(port=5310, upstream="shop_prod_api"), Listener(port=5310, upstream="shop_prod_web")),
        sidecar(Listener(port=4999, upstream="shop_prod_api")),
        sidecar(Listener(port=70000, upstream="shop_prod_api")),
        edge(route(), upstreams=(Upstream(name="shop_prod_api", peers=(Peer(address="a:99999"),)),)),
        edge(route(), upstreams=(Upstream(name="shop_prod_api", peers=(Peer(address="a:80", weight=0),)),)),
    ],
)
def test_a_configuration_at_odds_with_itself_is_refused(config: NginxConfig) -> None:
    with pytest.raises(Stalled):
        render(config)


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
PATHS = st.lists(st.from_regex(r"[a-z0-9_.~-]*[a-z0-9]", fullmatch=True), max_size=3).map(lambda parts: "/" + "/".join(parts))
ROUTES = st.builds(
    Route,
    host=st.one_of(st.just("_"), NAMES.map(lambda name: f"{name}.example"), NAMES.map(lambda name: f"*.{name}.example")),
    path=PATHS,
    rewrite=st.one_of(st.none(), PATHS),
    upstream=st.sampled_from([None, "shop_prod_api", "shop_prod_web", "shop_prod_gone"]),
    service=st.just("shop/prod/api"),
    read_timeout=st.floats(0.001, 3600),
    body_limit=st.integers(0, 2**40),
)


@given(st.lists(ROUTES, max_size=6, unique_by=lambda item: (item.host, item.path.rstrip("/"))))
def test_every_valid_configuration_reads_back_as_it_was_meant(routes: list[Route]) -> None:
    config = edge(*routes, upstreams=(API, WEB, EMPTY))
    rendered = render(config)
    check(config, rendered.text, rendered.fingerprint)


@pytest.mark.parametrize(
    ("line", "injected"),
    [
        ("location / {", "location /evil { return 200 x; }\n        location / {"),
        ("    proxy_connect_timeout 1s;", "    proxy_connect_timeout 1s;\n    load_module /tmp/evil.so;"),
        ("    access_log off;", "    include /etc/passwd;\n    access_log off;"),
        ("server shop_prod_api:8000 max_fails=0;", "server evil.example:80 max_fails=0;"),
        ("server 10.213.0.12:8000 max_fails=0 backup;", ""),
        ("listen 80;", "listen 80;\n        listen 81;"),
        ("proxy_pass http://shop_prod_api;", "proxy_pass http://shop_prod_web;"),
        ("server_name shop.example;", "server_name shop.example evil.example;"),
        ("        listen 80;", "        } listen 80;"),
        ("        server_name shop.example;", "        server_name shop.example"),
        ("        set $service shop/prod/api;", "        set $service shop/prod/api; alias /etc;"),
    ],
)
def test_a_directive_that_nobody_asked_for_is_found_when_the_text_is_read_back(line: str, injected: str) -> None:
    """FAULTS 51: whatever a template lets through, the text is compared with what was meant."""
    config = edge(route())
    rendered = render(config)
    assert line in rendered.text
    with pytest.raises(Stalled, match="rendered text is not what was meant"):
        check(config, rendered.text.replace(line, injected, 1), rendered.fingerprint)


def test_what_can_read_files_or_run_code_is_in_no_allow_list() -> None:
    dangerous = {"load_module", "include", "alias", "root", "js_import", "perl", "ssl_engine", "content_by_lua", "env", "user"}
    assert not dangerous & SETTINGS
