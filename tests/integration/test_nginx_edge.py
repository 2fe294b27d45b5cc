"""The edge's routing by a real nginx: hosts, prefixes, rewrites, websockets, bodies, headers, the access log."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from reconciler.model.routes import NginxConfig, Peer, Route, Upstream
from tests.integration.conftest import SCOPE_LABEL, Scope
from tests.integration.images import Images
from tests.integration.nginx_rig import Backend, Rig, Running, request
from tests.ports import free_ports

pytestmark = pytest.mark.docker


class Edge:
    """One edge with a backend per service."""

    def __init__(self, running: Running, backends: dict[str, Backend]) -> None:
        self.running = running
        self.backends = backends
        self.port = running.config.http_ports[0]


ROUTES = (
    ("shop.example", "/", None, "web", 60.0, 0),
    ("shop.example", "/api", "/", "api", 60.0, 0),
    ("shop.example", "/api/v1", None, "one", 60.0, 0),
    ("shop.example", "/old", "/new", "api", 60.0, 0),
    ("shop.example", "/a.b", "/dot", "api", 60.0, 0),
    ("*.shop.example", "/api", None, "api", 60.0, 1000),
    ("soon.example", "/api", "/", "api", 2.0, 0),
    ("other.example", "/only", None, "web", 60.0, 0),
    ("other.example", "/down", None, None, 60.0, 0),
)


@pytest.fixture(scope="module")
def edge(docker_client: docker.DockerClient, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    backends = {name: Backend(name) for name in ("web", "api", "one")}
    with free_ports() as pick:
        yield from _edge(docker_client, images, Path(tmp_path_factory.mktemp("edge")) / "nginx", backends, pick(), pick())


def _edge(
    client: docker.DockerClient, images: Images, root: Path, backends: dict[str, Backend], port: int, generation: int
) -> Iterator[Edge]:
    config = NginxConfig(
        kind="edge",
        name="nginx",
        generation_port=generation,
        http_ports=(port,),
        upstreams=tuple(Upstream(name=f"shop_prod_{name}", peers=(Peer(address=b.address),)) for name, b in backends.items()),
        routes=tuple(
            Route(
                host=host,
                path=path,
                rewrite=rewrite,
                upstream=f"shop_prod_{name}" if name else None,
                service=f"shop/prod/{name or 'down'}",
                read_timeout=read_timeout,
                body_limit=limit,
            )
            for host, path, rewrite, name, read_timeout, limit in ROUTES
        ),
    )
    name = f"test-edge-{port}"
    scope = Scope(client, name, {SCOPE_LABEL: name})
    running = Rig(scope, root, images.nginx).start("nginx", config)
    yield Edge(running, backends)
    scope.remove_everything()


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/", "web /"),
        ("/apix", "web /apix"),
        ("/api", "api /"),
        ("/api/", "api /"),
        ("/api/x", "api /x"),
        ("/api?a=b&c=%20d", "api /?a=b&c=%20d"),
        ("/api/x?a=b%2Fc&d=/api", "api /x?a=b%2Fc&d=/api"),
        ("/api/a%2Fb/c", "api /a%2Fb/c"),
        ("/api/a%20b%3Fc%25", "api /a%20b%3Fc%25"),
        ("/api/caf%C3%A9", "api /caf%C3%A9"),
        ("/api/v1", "one /api/v1"),
        ("/api/v1/x%2Fy?z=1", "one /api/v1/x%2Fy?z=1"),
        ("/api/v10", "api /v10"),
        ("/old", "api /new"),
        ("/old/x%2Fy", "api /new/x%2Fy"),
        ("/older", "web /older"),
        ("/a.b/c", "api /dot/c"),
        ("/a.b", "api /dot"),
        ("/axb/c", "web /axb/c"),
        ("/%61pi/x", "api /x"),  # the prefix in disguise: nginx's own form of the path is passed on
        ("/web/../api/x", "api /x"),
        ("/old/x/../y", "api /new/y"),
        ("/old/x%2F..%2Fy", "api /new/y"),
        ("/api/..", "web /api/.."),  # leaves the prefix, so it is not this route's; passed on unchanged, as without nginx
    ],
)
def test_the_longest_prefix_on_segment_borders_gets_the_request_and_nothing_is_lost_in_a_rewrite(
    edge: Edge, target: str, answer: str
) -> None:
    assert request(edge.port, target).body == answer


@pytest.mark.parametrize(
    ("host", "target", "status"),
    [
        ("nobody.example", "/", 404),
        ("other.example", "/", 404),
        ("other.example", "/only", 200),
        ("other.example", "/only/x", 200),
        ("other.example", "/onlyx", 404),
        ("SHOP.example:8080", "/", 200),
        ("eu.shop.example", "/api/x", 200),
        ("eu.shop.example", "/", 404),
        ("other.example", "/down", 503),
        ("other.example", "/down/x", 503),
    ],
)
def test_hosts_get_their_own_routes_and_others_get_404(edge: Edge, host: str, target: str, status: int) -> None:
    assert request(edge.port, target, host=host).status == status


def test_a_service_without_a_live_backend_says_when_to_come_back(edge: Edge) -> None:
    answer = request(edge.port, "/down", host="other.example")
    assert answer.headers["retry-after"] == "5"
    assert "shop/prod/down" in answer.body


def test_a_large_body_passes_and_a_limit_holds(edge: Edge) -> None:
    assert request(edge.port, "/api/upload", "POST", body=b"x" * 3_000_000).status == 200
    assert edge.backends["api"].seen[-1].body == 3_000_000
    assert request(edge.port, "/api", "POST", host="eu.shop.example", body=b"x" * 1000).status == 200
    assert request(edge.port, "/api", "POST", host="eu.shop.example", body=b"x" * 1001).status == 413


def raw(edge: Edge, head: str) -> dict[str, str]:
    """The headers as the backend `web` got them."""
    with socket.create_connection(("127.0.0.1", edge.port), 5) as client:
        client.sendall(head.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    return edge.backends["web"].seen[-1].headers


def test_the_backend_learns_who_asked_for_what(edge: Edge) -> None:
    plain = raw(edge, "GET /h HTTP/1.1\r\nHost: shop.example:8443\r\nConnection: close\r\n\r\n")
    assert plain["host"] == "shop.example:8443"
    assert plain["x-forwarded-host"] == "shop.example:8443"
    assert plain["x-forwarded-for"] == plain["x-real-ip"] == "127.0.0.1"
    assert plain["x-forwarded-proto"] == "http"
    assert len(plain["x-request-id"]) == 32
    assert "upgrade" not in plain
    assert "connection" not in plain

    given = (
        "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Request-ID: abc-1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
    )
    behind = raw(edge, f"GET /h HTTP/1.1\r\nHost: shop.example\r\n{given}\r\n")
    assert behind["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    assert behind["x-forwarded-proto"] == "https"
    assert behind["x-request-id"] == "abc-1"
    assert "upgrade" not in behind  # only websockets are upgraded

    strange = raw(edge, 'GET /h HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Proto: javascript\r\nX-Request-ID: a"b\r\n\r\n')
    assert strange["x-forwarded-proto"] == "http"
    assert len(strange["x-request-id"]) == 32


@pytest.mark.parametrize(("target", "passed_on"), [("/api/ws%2Fx?token=1", "/ws%2Fx?token=1"), ("/api", "/")])
def test_a_websocket_outlives_the_read_timeout_of_its_route(
    edge: Edge, eventually: Callable[..., object], target: str, passed_on: str
) -> None:
    with socket.create_connection(("127.0.0.1", edge.port), 20) as client:
        upgrade = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: soon.example\r\n{upgrade}\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        assert edge.backends["api"].seen[-1].target == passed_on
        assert edge.backends["api"].seen[-1].headers["connection"] == "upgrade"
        opened = time.monotonic()
        eventually(lambda: time.monotonic() - opened > 3, 20, "more silence than the route's read timeout of 2 s")
        client.sendall(b"ping")
        assert client.recv(4096) == b"ping"


def test_requests_share_upstream_connections(edge: Edge, eventually: Callable[..., object]) -> None:
    opened: list[int] = []
    statuses: set[int] = set()

    def quickly() -> bool:
        """Twenty requests in less time than nginx keeps a connection that idles, which is a second."""
        before, began = edge.backends["one"].connections, time.monotonic()
        statuses.update(request(edge.port, f"/api/v1/{number}").status for number in range(20))
        opened.append(edge.backends["one"].connections - before)
        return time.monotonic() - began < 0.9

    eventually(quickly, 60, "twenty requests within a second")
    assert statuses == {200}
    assert opened[-1] <= 2  # one for each worker


def test_the_access_log_has_a_line_of_json_per_request_with_the_attempts(edge: Edge, eventually: Callable[..., object]) -> None:
    request(edge.port, "/api/logged?q=%22\\\\")

    def lines() -> list[dict[str, str]]:
        output = edge.running.container.logs(stdout=True, stderr=False).decode()
        return [line for line in map(json.loads, output.splitlines()) if "/api/logged" in line["uri"]]

    eventually(lines, 5, "the line of the request")
    (line,) = lines()
    assert line["service"] == "shop/prod/api"
    assert line["upstream"] == edge.backends["api"].address
    assert (line["status"], line["upstream_status"], line["method"]) == ("200", "200", "GET")
    assert float(line["duration"]) >= 0
    assert edge.running.loaded
    output = edge.running.container.logs(stdout=True, stderr=False).decode()
    assert "localhost" not in {json.loads(entry)["host"] for entry in output.splitlines()}  # probes of the generation endpoint
