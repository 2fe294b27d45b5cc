"""A reboot of the machine, as far as Docker goes: its daemon and every container end, the reconciler is killed, all start again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.engine.faults import RECORD
from tests.integration import images as image_store
from tests.integration.conftest import Scope
from tests.integration.engine_rig import Engine
from tests.integration.images import Images
from tests.integration.program import ENTRY, Program
from tests.integration.server import QUICK, Server
from tests.remote import Remote
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]  # each wait has its own deadline

NEVER_READY = {**QUICK, "start_period": "1h"}
DATA = {"volumes": {"data": "/data"}, "needs": {}}
HOLD = r"""
import socket, sys, time
held = socket.create_connection((sys.argv[1], 8080))
print("held", flush=True)
while held.send(b"GET /up HTTP/1.1\r\nHost: web\r\n\r\n") and held.recv(4096):
    time.sleep(5)
"""
"""It speaks now and then: the application closes what has been silent for 75 seconds."""


def test_what_was_live_comes_back_first_and_what_was_draining_does_not(
    docker_client: Any, images: Images, git_remote: Remote, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """FAULTS 15. One service drains a slot, one has staged one, one with data is being replaced."""
    engine = Engine()
    client = None
    try:
        engine.start()
        image_store.copy(docker_client, engine.client, (images.nginx, images.app))
        server = Server(Scope(engine.client, "test-reboot"), images, git_remote, tmp_path, free_port, docker_url=engine.url)
        web = {"drain": {"timeout": "1h"}}
        with started(server, engine, "before") as program:
            server.commit({"web": server.app("1", **web), "api": server.app("1"), "db": server.app("1", **DATA)}, "first")
            services = ("web", "api", "db")
            eventually(lambda: all(role(server, name, "primary") == "live" for name in services), 120, lambda: program.said)
            eventually(lambda: {"web", "api", "db", server.settings.host_name} <= running(server), 120, lambda: program.said)
            client = hold(engine, address(server, "web"))
            hangs = {"health": NEVER_READY, "env": {"HANG_HEALTH": "1"}}
            second = {"web": server.app("2", **web), "api": server.app("2", **hangs), "db": server.app("2", **DATA, **hangs)}
            server.commit(second, "second")
            eventually(lambda: version(server, "db") == "2", 120, lambda: program.said)
            eventually(lambda: role(server, "web", "primary") == "draining", 120, lambda: program.said)
            eventually(lambda: role(server, "api", "secondary") == "staged", 120, lambda: program.said)
            eventually(lambda: {"web", "web_secondary", "api", "api_secondary"} <= running(server), 120, lambda: program.said)
            program.kill()
        engine.stop()
        engine.start()
        came_back = running(server) - {server.settings.host_name, "db"}  # a single process with one slot Docker may start itself
        assert came_back == set(), "Docker itself must bring back no slot: it does not know which one is live"

        with started(server, engine, "after") as program:
            expected = {
                "web_secondary",
                "web_secondary_sidecar",
                "api",
                "api_sidecar",
                "api_secondary",
                "api_secondary_sidecar",
                "db",
            }
            eventually(lambda: running(server) == {*expected, server.settings.host_name}, 120, lambda: program.said)
            eventually(lambda: set(server.ids()) == running(server), 120, lambda: program.said)
            assert version(server, "db") == "2", "nothing else serves its data: it is started again, behind its health gate"
            server.commit({"web": server.app("2", **web), "api": server.app("3"), "db": server.app("3", **DATA)}, "third")
            eventually(lambda: version(server, "db") == "3" and role(server, "db", "primary") == "live", 150, lambda: program.said)
            eventually(lambda: server.slot("api") == "secondary" and "api" not in running(server), 150, lambda: program.said)
            assert program.end() == 0
        starts = [line.split()[-1] for line in steps(server, "after") if line.startswith("before") and line.split()[2] == "start"]
        names = [name.removeprefix(f"{server.project}_prod_") for name in starts]
        assert "web" not in names and "web_sidecar" not in names, "what was draining is not started again"
        for live in ("web_secondary", "api"):
            assert names.index(f"{live}_sidecar") < names.index(live), names
            assert names.index(live) < names.index("api_secondary"), f"what is live comes first: {names}"
        server.close()
    finally:
        if client is not None:
            client.kill()
            client.wait(30)
        engine.remove()


def started(server: Server, engine: Engine, name: str) -> Program:
    """The daemon inside the Engine's namespace; its steps are recorded under that name."""
    server.settings.local_dir.mkdir(exist_ok=True)
    return Program(server, "run", env={RECORD: str(server.directory / name)}, entry=(*engine.inside, *ENTRY))


def steps(server: Server, name: str) -> list[str]:
    return (server.directory / name).read_text().splitlines()


def running(server: Server) -> set[str]:
    """Names, without project and environment, of what runs."""
    return {name for name, container in server.ours().items() if container.status == "running"}


def version(server: Server, name: str) -> str:
    """The version that the running container has been given; nothing when none runs."""
    found = server.ours().get(name)
    if found is None or found.status != "running":
        return ""
    return next(str(entry).partition("=")[2] for entry in found.attrs["Config"]["Env"] if entry.startswith("VERSION="))


def role(server: Server, service: str, slot: str) -> str:
    """What the decision says of a slot; nothing when it does not list it."""
    backends = server.cluster().services[str(server.key(service))].backends
    return next((backend.role for backend in backends if backend.slot == slot), "")


def address(server: Server, name: str) -> str:
    """A container's own address on the project network: its sidecar's."""
    (network,) = server.container(f"{name}_sidecar").attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def hold(engine: Engine, address: str) -> subprocess.Popen[str]:
    """A client that stays connected, so that its slot goes on draining."""
    client = subprocess.Popen([*engine.inside, sys.executable, "-c", HOLD, address], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None and client.stdout.readline() == "held\n"
    return client
