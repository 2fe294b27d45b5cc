"""Load from a client's namespace through every server's edge, and through the mesh of the services behind it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from load import Load, Plan, Report, Tcp

from tests.cluster.namespaces import Namespace
from tests.waiting import eventually

SCRIPT = Path(__file__).resolve().parents[2] / "tools/load.py"
SECONDS = 280.0


class Client:
    """A machine of its own. The load generator sends to loopback addresses alone: each stands for one server here."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        namespace.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", "net.ipv4.conf.eth0.route_localnet=1")
        namespace.run(
            "iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-s", "127.0.0.0/8", "-j", "SNAT",
            "--to-source", namespace.address,
        )  # fmt: skip

    def reach(self, address: str) -> str:
        """The loopback address that leads to a server."""
        local = f"127.0.9.{address.rpartition('.')[2]}"
        self.namespace.run(
            "iptables", "-w", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", local, "-j", "DNAT", "--to-destination", address
        )
        return local

    def start(self, plan: Plan) -> Load:
        """The load generator in this namespace."""
        return start(self.namespace.enter, plan)


def start(enter: Callable[..., tuple[str, ...]], plan: Plan) -> Load:
    """The load generator where a command that `enter` makes of it is begun."""
    command = enter(sys.executable, str(SCRIPT), json.dumps(asdict(plan)))
    return Load(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


@dataclass(frozen=True)
class Seen:
    """What came of the load: by `server/kind`."""

    reports: Mapping[str, Report]

    @property
    def sent(self) -> int:
        return sum(report.sent for report in self.reports.values())

    @property
    def failed(self) -> int:
        """Requests that failed at the edge, or in the mesh behind it."""
        mesh = sum(
            times
            for name, report in self.reports.items()
            if "/mesh" in name
            for code, times in report.seen.items()
            if code != "200"
        )
        return mesh + sum(report.failed for report in self.reports.values())

    @property
    def errors(self) -> str:
        lines = [f"{name}: {error}" for name, report in self.reports.items() for error in report.errors]
        lines += [f"{name}: {dict(report.seen)}" for name, report in self.reports.items() if "/mesh" in name]
        return "\n".join(lines)

    def versions(self, server: str) -> Mapping[str, int]:
        """How often each version answered at a server's edge."""
        return self.reports[f"{server}/edge"].seen

    def lost(self, servers: tuple[str, ...]) -> int:
        """Failures at these servers' edges alone."""
        return Seen({name: report for name, report in self.reports.items() if name.split("/")[0] in servers}).failed


class Traffic:
    """Load that runs until `stop`."""

    def __init__(self, loads: Mapping[str, Load]) -> None:
        self._loads = loads
        eventually(lambda: all(load.report.sent > 5 for load in loads.values()), 60, "load to be sent")

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether every load generator is still at work."""
        return all(load.running for load in self._loads.values())

    @property
    def now(self) -> Seen:
        """What was counted up to half a second ago."""
        return Seen({name: load.report for name, load in self._loads.items()})

    def stop(self) -> Seen:
        """No new requests. Returns everything."""
        return Seen({name: load.stop() for name, load in self._loads.items()})


def edge(url: str, seconds: float = SECONDS) -> Plan:
    """Short and slow requests, uploads and websockets at an edge, gently: the machine is shared."""
    return Plan(
        url=url, host="shop.example", seconds=seconds, posts=1, gets=1, slow_gets=1, websockets=1, pause=0.03, echo=True,
        slow_path="/slow?s=1", seen='"version": "([^"]+)"',
    )  # fmt: skip


def mesh(url: str, port: int, seconds: float = SECONDS) -> Plan:
    """Requests at the edge that the application makes another one for, at an internal port on its localhost."""
    path = f"/fetch?url=http://localhost:{port}/"
    return Plan(url=url, host="shop.example", seconds=seconds, gets=1, get_path=path, pause=0.05, seen='"status": ([0-9]+)')


def edge_posts(url: str, seconds: float = SECONDS) -> Plan:
    """POSTs at an edge, one at a time."""
    return Plan(url=url, host="shop.example", seconds=seconds, posts=1, pause=0.02, echo=True)


def mesh_posts(port: int, seconds: float = SECONDS) -> Plan:
    """POSTs at an internal port, one at a time, each on a connection of its own: the mesh chooses a backend for each connection."""
    send = "POST / HTTP/1.1\r\nHost: mesh\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
    post = Tcp(port=port, send=send, expect="HTTP/1.1 200 OK\r\n", name="post")
    return Plan(url=f"http://127.0.0.1:{port}", seconds=seconds, tcp=(post,), pause=0.02)
