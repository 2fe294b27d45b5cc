"""The images of the tests behave as the tests assume, whether they were pulled or built from packages."""

from __future__ import annotations

import json
import socket
import struct
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from docker.models.containers import ExecResult

from tests.integration.conftest import Scope
from tests.integration.images import Images
from tests.waiting import eventually

pytestmark = pytest.mark.docker

CONFIG = """
worker_processes 1;
pid /tmp/test.pid;
events {}
http {
    keepalive_min_timeout 1s;
    split_clients $remote_addr $group { 10% canary; * live; }
    upstream live { server 127.0.0.1:1 max_fails=0; server 127.0.0.1:2 backup; keepalive 8; keepalive_timeout 30s; }
    upstream canary { server 127.0.0.1:3; }
    server { listen 8099; location / { proxy_pass http://$group; } }
}
stream {
    upstream database { zone database 64k; server 127.0.0.1:4; }
    server { listen 127.0.0.1:5999; proxy_pass database; }
}
"""


def get(url: str, data: bytes | None = None) -> dict[str, object]:
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=40) as response:
        answer: dict[str, object] = json.load(response)
    return answer


def test_nginx_tests_and_reloads_a_configuration_with_every_feature_that_we_render(scope: Scope, images: Images) -> None:
    container = scope.run(images.nginx, "nginx")
    write = ["sh", "-c", f"cat > /tmp/test.conf <<'END'\n{CONFIG}\nEND"]
    assert container.exec_run(write).exit_code == 0
    tested = container.exec_run(["nginx", "-t", "-c", "/tmp/test.conf"])
    assert tested.exit_code == 0, said(tested)

    def workers() -> set[str]:
        container.reload()
        master = container.attrs["State"]["Pid"]
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        titles = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
        return {pid for pid, title in titles.items() if "worker process" in title and "shutting down" not in title}

    before = eventually(workers, 30, "workers")
    assert container.exec_run(["nginx", "-s", "reload"]).exit_code == 0
    eventually(lambda: workers() and not workers() & before, 30, "new workers in place of the old ones")


def test_application_finishes_what_is_in_flight_and_tells_websockets_to_reconnect(
    scope: Scope, images: Images, free_port: Callable[[], int]
) -> None:
    port = free_port()
    container = scope.run(images.app, env={"VERSION": "7"}, ports={"8080/tcp": ("127.0.0.1", port)})
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: get(f"{url}/up")["up"], 60, "the application is up")
    assert get(url)["version"] == "7"
    assert get(url, b"x" * 100_000)["length"] == 100_000

    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(
        b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
    container.reload()
    process = container.attrs["State"]["Pid"]
    slow: list[dict[str, object]] = []
    request = threading.Thread(target=lambda: slow.append(get(f"{url}/slow?s=8")))
    request.start()
    eventually(lambda: established(Path(f"/proc/{process}/net/tcp").read_text()) >= 2, 30, "both connections to be open")

    stop = threading.Thread(target=lambda: container.stop(timeout=30))
    stop.start()
    close_frame = client.recv(4096)
    assert close_frame[0] == 0x88
    assert struct.unpack("!H", close_frame[2:4]) == (1012,)
    client.close()
    request.join(40)
    stop.join(30)
    assert slow[0]["slept"] == 8
    assert container.wait(timeout=20)["StatusCode"] == 0


def said(result: ExecResult) -> str:
    """What a command in a container wrote."""
    assert isinstance(result.output, bytes)
    return result.output.decode()


def established(proc_net_tcp: str) -> int:
    """How many connections to port 8080 (hexadecimal 1F90) stand, from the text of /proc/net/tcp (state 01)."""
    rows = [line.split() for line in proc_net_tcp.splitlines()[1:]]
    return sum(1 for row in rows if row[1].endswith(":1F90") and row[3] == "01")


def test_postgres_keeps_its_data_in_a_volume_and_wants_the_password(scope: Scope, images: Images) -> None:
    container = scope.run(images.postgres, "db", env={"POSTGRES_PASSWORD": "correct"})

    def query(password: str, sql: str) -> tuple[int, str]:
        command = ["psql", "-h", "localhost", "-U", "postgres", "-Atc", sql]
        result = container.exec_run(command, environment={"PGPASSWORD": password})
        return int(result.exit_code or 0), said(result).strip()

    eventually(lambda: query("correct", "select 1") == (0, "1"), 120, lambda: container.logs(tail=5).decode())
    assert query("wrong", "select 1")[0] != 0
    container.reload()
    assert [mount["Destination"] for mount in container.attrs["Mounts"]] == ["/var/lib/postgresql/data"]
    assert query("correct", "create table kept (n int)")[0] == 0
    container.restart()
    eventually(lambda: query("correct", "select count(*) from kept") == (0, "0"), 120, "the table is still there")


def test_redis_answers_other_containers(scope: Scope, images: Images) -> None:
    network = scope.network()
    scope.run(images.redis, "redis", network=network.name)
    client = scope.run(images.redis, "client", network=network.name, command=["sleep", "600"])
    ping = ["redis-cli", "-h", f"{scope.name}_redis", "ping"]
    eventually(lambda: said(client.exec_run(ping)).strip() == "PONG", 60, "redis answers PONG")
