"""`render.blame`: nginx's own line leads to the service that it speaks of. The lines are those of nginx 1.31."""

from __future__ import annotations

import pytest

from reconciler.model.routes import Listener, NginxConfig, Peer, Route, Upstream
from reconciler.render.blame import Blame, blame, loaded_peers, unwritable
from reconciler.render.nginx import render

API = Upstream(name="shop_prod_api", peers=(Peer(address="shop_prod_api:8000"), Peer(address="10.213.0.12:8000", backup=True)))
WEB = Upstream(name="shop_prod_web", peers=(Peer(address="shop_prod_web:80"), Peer(address="10.213.0.9:80", weight=3)))
EDGE = NginxConfig(
    kind="edge",
    name="nginx",
    generation_port=4999,
    http_ports=(80,),
    upstreams=(API, WEB),
    routes=(
        Route(host="shop.example", path="/api", rewrite="/", upstream="shop_prod_api", service="shop/prod/api"),
        Route(host="shop.example", path="/", rewrite=None, upstream="shop_prod_web", service="shop/prod/web"),
    ),
)
SIDECAR = NginxConfig(
    kind="sidecar",
    name="shop_prod_x_sidecar",
    generation_port=4999,
    upstreams=(API, WEB),
    listeners=(Listener(port=5310, upstream="shop_prod_api"), Listener(port=5432, upstream="shop_prod_web")),
)


def number(text: str, part: str) -> int:
    """The line, counted from 1, that holds a part of the text."""
    return next(n for n, row in enumerate(text.splitlines(), 1) if part in row)


@pytest.mark.parametrize("config", [EDGE, SIDECAR], ids=["edge", "sidecar"])
@pytest.mark.parametrize(("host", "upstream"), [("shop_prod_api", "shop_prod_api"), ("shop_prod_web", "shop_prod_web")])
def test_a_name_that_does_not_resolve_is_blamed_on_its_upstream(config: NginxConfig, host: str, upstream: str) -> None:
    text = render(config).text
    place = f"/etc/reconciler-nginx/nginx.conf.candidate:{number(text, f'server {host}:')}"
    line = f'[emerg] 6506#6506: host not found in upstream "{host}:80" in {place}'
    assert blame(config, text, line) == Blame(upstream, "upstream")


@pytest.mark.parametrize(("port", "upstream"), [(5310, "shop_prod_api"), (5432, "shop_prod_web")])
def test_a_port_in_use_is_blamed_on_its_listener(port: int, upstream: str) -> None:
    text = render(SIDECAR).text
    line = f"[emerg] 1#1: bind() to 127.0.0.1:{port} failed (98: Address in use)"
    assert blame(SIDECAR, text, line) == Blame(upstream, "listener", port)


@pytest.mark.parametrize("part", ["location = /api {", "rewrite ", "proxy_pass http://shop_prod_api"])
def test_what_stands_in_a_location_is_blamed_on_the_service_that_it_leads_to(part: str) -> None:
    text = render(EDGE).text
    line = f"[emerg] 1#1: something is wrong in /etc/reconciler-nginx/nginx.conf:{number(text, part)}"
    assert blame(EDGE, text, line) == Blame("shop_prod_api", "upstream")


def test_without_a_place_a_name_is_blamed_on_the_upstream_that_lists_it() -> None:
    line = '[emerg] 1#1: host not found in upstream "shop_prod_api:8000"'
    assert blame(EDGE, render(EDGE).text, line) == Blame("shop_prod_api", "upstream")
    assert blame(EDGE, render(EDGE).text, line.replace("api", "nobody")) is None


def test_a_zone_is_blamed_on_its_upstream() -> None:
    text = render(EDGE).text
    zone = next(row.split()[1] for row in text.splitlines() if row.split()[:1] == ["zone"] and "shop_prod_web" in row)
    line = f'[emerg] 1#1: the size 65536 of shared memory zone "{zone}" conflicts with already declared size 131072'
    assert blame(EDGE, text, line) == Blame("shop_prod_web", "upstream")


@pytest.mark.parametrize(
    "line",
    [
        "[emerg] 1#1: still could not bind()",
        "[emerg] 1#1: bind() to 127.0.0.1:4999 failed (98: Address in use)",
        '[emerg] 1#1: unknown directive "keepalive_min_timeout" in /etc/reconciler-nginx/nginx.conf:{settings}',
        "[emerg] 1#1: something about all of them in /etc/reconciler-nginx/nginx.conf:{server}",
        "[emerg] 1#1: beyond the end in /etc/reconciler-nginx/nginx.conf:99999",
        "shop_prod_x_sidecar could not be given its configuration: Docker does not answer",
    ],
)
def test_what_concerns_everybody_is_blamed_on_nobody(line: str) -> None:
    text = render(EDGE).text
    told = line.format(settings=number(text, "keepalive_min_timeout"), server=number(text, "server_name shop.example"))
    assert blame(EDGE, text, told) is None


@pytest.mark.parametrize("config", [EDGE, SIDECAR], ids=["edge", "sidecar"])
def test_the_peers_are_read_back_as_they_were_written(config: NginxConfig) -> None:
    found = loaded_peers("nginx", render(config).text)
    assert {name: set(peers) for name, peers in found.items()} == {u.name: set(u.peers) for u in config.upstreams}


def test_what_cannot_be_written_is_named_and_the_rest_is_not() -> None:
    bad = EDGE.model_copy(update={"upstreams": (API, WEB.model_copy(update={"peers": (Peer(address="a;b:80"),)}))})
    assert set(unwritable(bad)) == {"shop_prod_web"}
