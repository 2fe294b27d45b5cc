"""What an nginx refuses, a sidecar that is stuck and a backend that is dead: each harms what it is about, and nothing else."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.effects.namespace import workers
from tests.integration.server import Server, one_server  # noqa: F401 - the fixture `server`

pytestmark = pytest.mark.docker

PUBLIC = {"hosts": ["shop.example"]}


def main_process(server: Server, name: str) -> int:
    """The first process of a container, as the host sees it."""
    pid: int = server.container(name).attrs["State"]["Pid"]
    return pid


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process that is there and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGCONT)


@contextmanager
def clients(server: Server, answered: list[str]) -> Iterator[None]:
    """A client of the edge that asks again and again, and writes down what it got."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.05):
            try:
                answered.append(str(server.get().status))
            except OSError as error:
                answered.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=ask, name="client")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_port_that_an_application_has_in_its_own_container_keeps_out_that_listener_alone(server: Server) -> None:
    def services(fine: str) -> dict[str, object]:
        others = {"late": server.app("1", needs={}), "fine": server.app(fine, needs={})}
        return {"web": server.app("1", env={"TCP_PORT": str(server.port("late"))}), **others}

    server.deploy({"web": services("1")["web"]}, "web")  # type: ignore[dict-item]
    before = server.ids()
    server.deploy(services("1"), "more")  # type: ignore[arg-type]
    assert server.inside("web", f"http://localhost:{server.port('fine')}/")["version"] == "1"
    assert "PortInUse" in server.conditions() and str(server.port("late")) in server.conditions()
    serving = server.report().serving
    assert serving is not None and serving.without == ()
    server.deploy(services("2"), "fine 2")  # type: ignore[arg-type]
    assert server.inside("web", f"http://localhost:{server.port('fine')}/")["version"] == "2"
    after = server.ids()
    assert all(after[name] == before[name] for name in ("web", "web_sidecar"))
    switches = server.switches()
    for _ in range(5):
        server.step()
    assert server.switches() == switches


def test_a_sidecar_that_cannot_reload_is_replaced_without_anybody_noticing(server: Server) -> None:
    web = server.app("1", public=PUBLIC)
    server.deploy({"web": web}, "web")
    master = main_process(server, "web_sidecar")
    (worker,) = workers(master).current
    answered: list[str] = []
    with frozen(worker), clients(server, answered):
        server.commit({"web": web, "fine": server.app("1", needs={})}, "fine")
        server.run_until(lambda: server.slot("web") == "secondary", 150, "web to have a fresh sidecar")
        server.run_until(lambda: "web_sidecar" not in server.ours(), 60, "the old pair to be gone")
        server.settle()
    assert server.inside("web_secondary", f"http://localhost:{server.port('fine')}/")["version"] == "1"
    state = server.cluster().services[str(server.key("web"))]
    assert state.rollout is not None and state.rollout.cause.startswith("a sidecar cannot reload")
    assert len(answered) > 100 and set(answered) == {"200"}
    assert "SidecarStuck" not in server.conditions()
    before = server.ids()
    server.settle()
    assert server.ids() == before


def test_a_replica_that_hangs_is_passed_over_and_used_again(server: Server) -> None:
    server.deploy({"web": server.app("1", needs={}, replicas=2, public=PUBLIC)}, "two")
    hostnames = {server.get().json["hostname"] for _ in range(12)}
    assert len(hostnames) == 2
    before, generation = server.ids(), server.cluster().generation
    edge = server.settings.state_dir / "nginx" / server.settings.edge_name / "nginx.conf"
    whole = edge.read_text()
    with frozen(main_process(server, "web_r2")):
        server.run_until(lambda: edge.read_text() != whole, 90, "the edge to pass it over")
        served = [server.get(timeout=5).json["hostname"] for _ in range(20)]
        assert set(served) == {server.container("web").attrs["Config"]["Hostname"]}
        server.run_until(lambda: "BackendMasked" in server.conditions(), 60, "the report to tell it")
        assert server.cluster().generation == generation
        serving = server.report().serving
        assert serving is not None and (serving.generation, serving.without) == (generation, ())
    server.run_until(lambda: edge.read_text() == whole, 90, "the edge to use it again")
    server.run_until(lambda: "BackendMasked" not in server.conditions(), 90, "the report to tell it no more")
    assert {server.get().json["hostname"] for _ in range(12)} == hostnames
    assert server.ids() == before and server.cluster().generation == generation


def test_a_replica_that_dies_is_one_backend_less_and_no_outage(server: Server) -> None:
    server.deploy({"web": server.app("1", needs={}, replicas=2, public=PUBLIC)}, "two")
    before = server.container("web_r2").id
    answered: list[str] = []
    with clients(server, answered):
        server.container("web_r2").remove(force=True)
        server.run_until(lambda: server.container("web_r2").id != before, 90, "the replica to be back")
        hostname = server.container("web_r2").attrs["Config"]["Hostname"]
        server.run_until(lambda: server.get().json["hostname"] == hostname, 90, "the replica to answer")
        server.run_until(lambda: len(answered) > 5, 30, "the clients to have asked a few times")
    assert set(answered) == {"200"}


def test_an_application_that_is_removed_by_hand_is_put_back_into_its_sidecar(server: Server) -> None:
    server.deploy({"web": server.app("1", public=PUBLIC), "fine": server.app("1", needs={})}, "web")
    before = server.ids()
    server.container("web").remove(force=True)
    server.run_until(lambda: server.get().status == 200, 90, "web to answer again")
    assert server.ids()["web_sidecar"] == before["web_sidecar"] and server.ids()["web"] != before["web"]
    assert server.inside("web", f"http://localhost:{server.port('fine')}/")["version"] == "1"


def test_an_edge_that_goes_leaves_no_configuration_behind(server: Server) -> None:
    server.deploy({"web": server.app("1", needs={}, public=PUBLIC)}, "public")
    directory = server.settings.state_dir / "nginx" / server.settings.edge_name
    assert directory.is_dir()
    server.deploy({"web": server.app("1", needs={})}, "private")
    assert server.settings.edge_name not in server.ours() and not directory.exists()
