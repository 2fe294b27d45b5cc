"""The load of the lost-requests benches: the same clients, whoever deploys underneath."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from load import Load, Plan, Report, Tcp

from tests.bench.server import QUICK, Server

LOAD = Path(__file__).resolve().parents[2] / "tools" / "load.py"
SHOP = "shop.example"
CONSUMER = "consumer.example"
PING = "ping\n"
SECONDS_MOST = 3000.0


def services(server: Server, version: str) -> dict[str, dict[str, object]]:
    """`web` is public HTTP, `echo` is raw TCP in the mesh, `consumer` has a sidecar and is never changed."""
    tcp_health = {**QUICK, "port": 8080}
    return {
        "web": server.app(version, public={"hosts": [SHOP]}),
        "echo": server.app(version, port=9000, env={"TCP_PORT": "9000"}, health=tcp_health),
        "consumer": server.app("1", public={"hosts": [CONSUMER]}, needs={"backend": "echo"}),
    }


def plans(edge_port: int, host_port: int, consumer_port: int) -> tuple[Plan, Plan, Plan]:
    """What is sent at the same time: through the edge; through a consumer's sidecar; through the host listener.

    40 clients POST on keep-alive connections, 6 GETs take a second, 6 websockets echo, 2 uploads take 3 s, 4 TCP clients of the
    host's process make 20 exchanges on each connection, 4 more open one for each exchange; 4 requests at a time make the consumer
    connect to its own localhost.
    """
    url = f"http://127.0.0.1:{edge_port}"
    tcp = tuple(Tcp(host_port, PING, PING, exchanges, "tcp (host listener)") for exchanges in (20, 1) for _ in range(4))
    main = Plan(
        url=url, host=SHOP, seconds=SECONDS_MOST, most=3_000_000, posts=40, slow_gets=6, websockets=6, uploads=2,
        pause=0.1, echo=True, slow_path="/slow?s=1", upload_seconds=3.0,
    )  # fmt: skip
    path = f"/connect?port={consumer_port}&line=ping"
    second = Plan(url=url, host=CONSUMER, seconds=SECONDS_MOST, most=1_000_000, gets=4, pause=0.02, get_path=path)
    return main, second, Plan(url=url, seconds=SECONDS_MOST, most=1_000_000, tcp=tcp, pause=0.05)


@dataclass
class Tally:
    """What the load came to, by kind, summed over its processes."""

    sent: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    reconnects: dict[str, int] = field(default_factory=dict)
    slowest_ms: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, report: Report, names: Mapping[str, str]) -> None:
        """Take one process's report; `names` renames kinds."""
        for kind, count in report.kinds.items():
            name = names.get(kind, kind)
            self.sent[name] = self.sent.get(name, 0) + count.sent
            self.failed[name] = self.failed.get(name, 0) + count.failed
            self.reconnects[name] = self.reconnects.get(name, 0) + count.reconnects
            self.slowest_ms[name] = max(self.slowest_ms.get(name, 0.0), count.slowest_ms)
        self.errors += report.errors

    @property
    def lost(self) -> int:
        return sum(self.failed.values())

    def cells(self) -> dict[str, str]:
        """`failed of sent`, by kind."""
        return {kind: f"{self.failed[kind]} of {sent:,}" for kind, sent in self.sent.items()}


NAMES = {"post": "POST, keep-alive", "slow_get": "slow GET", "upload": "slow upload", "get": "tcp (consumer container)"}


@contextmanager
def traffic(
    edge_port: int, host_port: int, consumer_port: int, *, edge: tuple[str, ...] = (), host: tuple[str, ...] = ()
) -> Iterator[Tally]:
    """Load while the block runs; the tally is complete after it. `edge`, `host`: before the commands, such as nsenter's."""
    tally = Tally()
    loads = [start(plan, at) for plan, at in zip(plans(edge_port, host_port, consumer_port), (edge, edge, host), strict=True)]
    try:
        _flowing(loads)
        yield tally
    finally:
        for load in loads:
            tally.add(load.stop(), NAMES)


def start(plan: Plan, prefix: tuple[str, ...]) -> Load:
    """The load generator, behind a prefix."""
    command = [*prefix, sys.executable, str(LOAD), json.dumps(asdict(plan))]
    return Load(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


def _flowing(loads: list[Load]) -> None:
    deadline = time.monotonic() + 20
    while not all(load.report.kinds and all(count.sent for count in load.report.kinds.values()) for load in loads):
        assert time.monotonic() < deadline and all(load.running for load in loads), [load.report for load in loads]
        time.sleep(0.1)
