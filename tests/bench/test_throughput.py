"""The edge beside a hand-written nginx, and the mesh beside a direct connection: ratios, taken in turns in one run."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from docker.models.containers import Container

from tests.bench.conftest import Mode
from tests.bench.results import Section
from tests.bench.server import QUICK, Server
from tests.integration.conftest import Scope
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

FAST = """FROM {image}
COPY fast.conf /fast.conf
CMD ["nginx", "-c", "/fast.conf"]
"""
BACKEND = """daemon off; error_log stderr; pid /tmp/nginx.pid; worker_processes 1; events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
    uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
    server { listen 8080; location / { return 200 "hello\\n"; } } }
"""
HAND = """daemon off; error_log stderr; pid /tmp/nginx.pid; worker_processes auto; events {{ worker_connections 4096; }}
http {{
    access_log {log};
    upstream backend {{ server {backend}:8080; keepalive 32; keepalive_requests 10000; }}
    server {{ listen {port}; location / {{
        proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}
}}
"""
LOGGED = "/dev/stdout combined"


def test_the_edge_keeps_up_with_a_hand_written_nginx(
    server: Server, scope: Scope, mode: Mode, report: Callable[[Section], None], tmp_path: Path
) -> None:
    """The same image, backend and network; wrk on 127.0.0.1 inside the namespace of the nginx that is measured."""
    if shutil.which("wrk") is None:
        pytest.fail("wrk is not installed: apt-get install wrk", pytrace=False)
    rounds, seconds = mode.pick(2, 4), mode.pick(5, 10)
    section = Section(
        "Edge throughput",
        f"""wrk (1 thread, 32 connections, {seconds} s) on 127.0.0.1 inside the network namespace of each nginx, in turns,
        {rounds} rounds; backend: nginx answering 6 bytes, one worker. The hand-written configuration is what a careful
        operator writes: upstream keep-alive, forwarded headers; once with nginx's `combined` access log to stdout, as the
        edge logs too, and once without any log.""",
    )
    network = deploy_fast(server)
    backend = eventually(lambda: next(c for c in mine(server) if c.labels.get("reconciler.service", "").endswith("/fast")))
    port = 8081
    edge = server.client.containers.get(server.edge_name)
    rivals: dict[str, tuple[Container, int]] = {"edge": (edge, server.edge_port)}
    for name, log in (("hand-written, access log", LOGGED), ("hand-written, no log", "off")):
        text = HAND.format(log=log, backend=backend.name, port=port)
        rivals[name] = (by_hand(scope, server, network, name, text, tmp_path), port)
    found: dict[str, list[float]] = {name: [] for name in rivals}
    latency: dict[str, list[float]] = {name: [] for name in rivals}
    for name, (container, listening) in rivals.items():
        wrk(container, listening, 1)  # warm
        assert name
    for _ in range(rounds):
        for name, (container, listening) in rivals.items():
            rate, p99 = wrk(container, listening, seconds)
            found[name].append(rate)
            latency[name].append(p99)
    base = statistics.median(found["edge"])
    section.table(
        ["nginx", "requests/s, median", "each round", "p99, ms", "edge / this one"],
        [
            [name, f"{statistics.median(rates):,.0f}", ", ".join(f"{r:,.0f}" for r in rates), 
             f"{statistics.median(latency[name]):.1f}",
             f"**{base / statistics.median(rates):.2f}**"]
            for name, rates in found.items()
        ],
    )  # fmt: skip
    report(section)


def test_the_mesh_is_close_to_a_direct_connection(server: Server, mode: Mode, report: Callable[[Section], None]) -> None:
    """64 bytes there and back: from a consumer's namespace through its sidecar, and straight to the provider; in turns."""
    exchanges, rounds = mode.pick(500, 2000), mode.pick(3, 10)
    section = Section(
        "Mesh latency",
        f"""From inside a consumer's network namespace to a TCP echo service: through its sidecar (localhost) and straight to the
        provider's address. {rounds} rounds in turns, each {exchanges} exchanges of 64 bytes on one connection, and {
            exchanges // 4
        } new connections with one exchange each. Medians of all.""",
    )
    health = {**QUICK, "port": 8080}
    services = {
        "echo": server.app("1", port=9000, env={"TCP_PORT": "9000"}, health=health),
        "consumer": server.app("1", needs={"backend": "echo"}),
    }
    server.start()
    server.wait(server.commit(services))
    provider = next(c for c in mine(server) if c.labels.get("reconciler.service", "").endswith("/echo"))
    consumer = server.pid_of(f"{server.name}_prod_consumer_sidecar")
    address = next(iter(provider.attrs["NetworkSettings"]["Networks"].values()))["IPAddress"]
    ways = {"mesh": ("127.0.0.1", server.port("echo")), "direct": (address, 9000)}
    kept: dict[str, list[float]] = {name: [] for name in ways}
    fresh: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (host, port) in ways.items():
            kept[name] += inside(consumer, lambda: exchanged(host, port, exchanges))  # noqa: B023
            fresh[name] += inside(consumer, lambda: [t for _ in range(exchanges // 4) for t in connected(host, port)])  # noqa: B023
    rows = []
    for what, times in (("exchange on an open connection", kept), ("new connection, one exchange", fresh)):
        mesh, direct = (statistics.median(times[name]) * 1e6 for name in ("mesh", "direct"))
        rows.append([what, f"{direct:.0f} µs", f"{mesh:.0f} µs", f"**{mesh / direct:.2f}**", f"{mesh - direct:.0f} µs"])
    section.table(["", "direct", "mesh", "mesh / direct", "added"], rows)
    report(section)


# --- parts


def deploy_fast(server: Server) -> str:
    """A public service whose backend is faster than any proxy in front of it. Returns the network's name."""
    service = {
        "dockerfile": "Dockerfile.fast",
        "port": 8080,
        "needs": {},
        "health": {**QUICK, "http": "/"},
        "public": {"path": "/"},
    }
    files = server.files({"fast": service})
    files[f"projects/{server.name}/Dockerfile.fast"] = FAST.format(image=server.images.nginx)
    files[f"projects/{server.name}/fast.conf"] = BACKEND
    server.start()
    server.wait(server.remote.commit(files, "a fast backend"))
    return f"{server.name}_prod_network"


def mine(server: Server) -> list[Container]:
    return server.client.containers.list(filters={"label": f"reconciler.server={server.name}"})


def by_hand(scope: Scope, server: Server, network: str, name: str, text: str, directory: Path) -> Container:
    """An nginx of the same image on the same network."""
    suffix = re.sub(r"\W+", "-", name)
    place = directory / suffix
    place.mkdir()
    (place / "nginx.conf").write_text(text)
    return server.client.containers.run(
        server.images.nginx,
        ["nginx", "-c", "/hand/nginx.conf"],
        name=f"{scope.name}_{suffix}",
        detach=True,
        labels=scope.labels,
        network=network,
        volumes={str(place): {"bind": "/hand", "mode": "ro"}},
    )


def wrk(container: Container, port: int, seconds: int) -> tuple[float, float]:
    """Requests per second, and the 99th percentile in ms; every answer has to be a 200."""
    container.reload()
    pid = int(container.attrs["State"]["Pid"])
    command = [
        "nsenter",
        f"--net=/proc/{pid}/ns/net",
        "wrk",
        "-t1",
        "-c32",
        f"-d{seconds}s",
        "--latency",
        f"http://127.0.0.1:{port}/",
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    assert "Non-2xx" not in output and "Socket errors" not in output, output
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    assert rate is not None and tail is not None, output
    return float(rate[1]), float(tail[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[tail[2]]


def inside(pid: int, work: Callable[[], list[float]]) -> list[float]:
    """Do `work` in a thread that has entered the network namespace of a process."""

    def entered() -> list[float]:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        assert ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000) == 0
        os.close(descriptor)
        return work()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(entered).result()


def exchanged(host: str, port: int, count: int) -> list[float]:
    """Seconds of each exchange on one connection."""
    times = []
    with socket.create_connection((host, port), 5) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            times.append(exchange(stream))
    return times


def connected(host: str, port: int) -> list[float]:
    """Seconds of a connection with one exchange."""
    begun = time.perf_counter()
    with socket.create_connection((host, port), 5) as stream:
        exchange(stream)
    return [time.perf_counter() - begun]


def exchange(stream: socket.socket) -> float:
    begun = time.perf_counter()
    stream.sendall(b"x" * 64)
    left = 64
    while left:
        left -= len(stream.recv(left))
    return time.perf_counter() - begun
