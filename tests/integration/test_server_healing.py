"""What a person or a fault does to containers is put right, in the slot where it was, without a toggle (FAULTS 15, 18, 23)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import docker.errors
import pytest
from docker.models.networks import Network

from tests.integration.server import Server, one_server  # noqa: F401 - the fixture `server`

pytestmark = pytest.mark.docker

PUBLIC = {"hosts": ["shop.example"]}


def everything_serves(server: Server) -> bool:
    """From the edge, from the host, and from inside the other application."""
    through_mesh = server.inside(f"api{_suffix(server, 'api')}", f"http://localhost:{server.port('web')}/")
    from_host = server.get(port=server.port("api")).json
    return bool(server.get().json["version"] == "1" and through_mesh["version"] == "1" and from_host["version"] == "1")


def _suffix(server: Server, service: str) -> str:
    return "_secondary" if server.slot(service) == "secondary" else ""


def two(server: Server) -> None:
    limits = {"memory": "100m"}
    server.deploy({"web": server.app("1", public=PUBLIC, resources=limits), "api": server.app("1")}, "two")
    assert everything_serves(server)


Harm = Callable[[Server], object]

APPLICATION: dict[str, Harm] = {
    "stopped": lambda server: server.container("web").stop(timeout=1),
    "killed": lambda server: server.container("web").kill(),
    "paused": lambda server: server.container("web").pause(),
}
PAIR: dict[str, Harm] = {
    "sidecar killed": lambda server: server.container("web_sidecar").kill(),
    "sidecar removed": lambda server: server.container("web_sidecar").remove(force=True),
    "application removed": lambda server: server.container("web").remove(force=True),
    "sidecar's nginx ended": lambda server: os.kill(int(server.container("web_sidecar").attrs["State"]["Pid"]), signal.SIGTERM),
}
NGINXES: dict[str, Harm] = {
    "edge killed": lambda server: server.edge().kill(),
    "edge removed": lambda server: server.edge().remove(force=True),
    "edge paused": lambda server: server.edge().pause(),
    "edge off its network": lambda server: _network(server).disconnect(server.edge()),
    "host listener killed": lambda server: server.host_listener().kill(),
    "host listener removed": lambda server: server.host_listener().remove(force=True),
}
IN_PLACE: dict[str, Harm] = {
    "memory changed": lambda server: server.container("web").update(mem_limit="50m", memswap_limit="100m"),
    "sidecar paused": lambda server: server.container("web_sidecar").pause(),
    "sidecar off its network": lambda server: _network(server).disconnect(server.container("web_sidecar")),
    "renamed": lambda server: server.container("web").rename(f"{server.name}_elsewhere"),
    "stranger's restart": lambda server: server.container("web").restart(timeout=1),
}


def _network(server: Server) -> Network:
    return server.scope.client.networks.get(f"{server.project}_prod_network")


def _bystanders(server: Server, harmed: str) -> dict[str, str]:
    return {name: found for name, found in server.ids().items() if not name.startswith(harmed)}


def test_an_application_that_is_gone_comes_back_in_its_slot(server: Server) -> None:
    two(server)
    for what, harm in APPLICATION.items():
        others, generation = _bystanders(server, "web"), server.cluster().generation
        sidecar = server.container("web_sidecar").id
        harm(server)
        server.run_until(lambda: everything_serves(server), 90, f"web to be back after it was {what}")
        assert _bystanders(server, "web") == others, what
        assert server.container("web_sidecar").id == sidecar, what
        assert (server.slot("web"), server.cluster().generation) == ("primary", generation), what


def test_a_dead_sidecar_takes_its_pair_and_the_pair_comes_back(server: Server) -> None:
    two(server)
    for what, harm in PAIR.items():
        others, before = _bystanders(server, "web"), server.container("web").id
        harm(server)
        server.run_until(
            lambda before=before: server.container("web").id != before and everything_serves(server),  # type: ignore[misc]
            90,
            f"the pair to be back after: {what}",
        )
        server.settle()
        assert _bystanders(server, "web") == others, what
        assert server.slot("web") == "primary" and "web_secondary" not in server.ids(), what


def test_the_edge_and_the_host_listener_come_back(server: Server) -> None:
    two(server)
    pairs = {name: found for name, found in server.ids().items() if "nginx" not in name}
    for what, harm in NGINXES.items():
        harm(server)
        server.run_until(lambda: everything_serves(server), 90, f"everything to serve after: {what}")
        server.settle()
        assert {name: found for name, found in server.ids().items() if "nginx" not in name} == pairs, what


def test_what_was_changed_by_hand_is_changed_back_in_place(server: Server) -> None:
    def limit() -> int:
        return int(server.container("web").attrs["HostConfig"]["Memory"])

    two(server)
    with server.watching():
        before = {name: container.id for name, container in server.ours().items()}
        for what, harm in IN_PLACE.items():
            harm(server)
            # Some of it disturbs nobody, and is known from an event alone, which may come late.
            server.run_until(
                lambda: limit() == 100 * 1024 * 1024 and everything_serves(server), 90, f"everything as it was after: {what}"
            )
            server.settle()
            assert {name: container.id for name, container in server.ours().items()} == before, what
            assert limit() == 100 * 1024 * 1024, what
            assert everything_serves(server), what


def test_foreign_containers_are_left_alone(server: Server) -> None:
    """I9: one with a name like ours, one on our network, one with another server's labels."""
    two(server)
    strangers = [
        server.scope.run(server.images.app, "prod_stranger", network=f"{server.project}_prod_network"),
        server.scope.run(server.images.app, "prod_other", labels={"reconciler.server": "somebody-else"}),
    ]
    before = [stranger.id for stranger in strangers]
    server.deploy({"web": server.app("2", public=PUBLIC), "api": server.app("1")}, "an update")
    for stranger in strangers:
        stranger.reload()
    assert [stranger.id for stranger in strangers] == before
    assert all(stranger.status == "running" for stranger in strangers)


def test_a_service_whose_name_a_stranger_has_says_so_and_holds_up_no_other(server: Server) -> None:
    """FAULTS 14."""
    stranger = server.scope.run(server.images.app, "prod_web")
    server.commit({"web": server.app("1"), "api": server.app("1")}, "first")
    server.run_until(lambda: server.get(port=server.port("api")).json["version"] == "1", 90, "api to be live")
    server.run_until(lambda: "not ours" in server.remote.show(f"status/{server.name}", "report.yaml"), 90, "the report to say so")
    stranger.reload()
    assert stranger.status == "running"
    stranger.remove(force=True)
    server.run_until(
        lambda: server.get(port=server.port("web")).json["version"] == "1", 150, "web to be live"
    )  # tried again every minute


def test_after_a_reboot_the_live_slots_come_first_and_a_drained_one_is_not_resurrected(server: Server) -> None:
    """FAULTS 15. What a boot leaves: every container of ours ended, those with a restart policy started by Docker again."""
    two(server)
    server.deploy({"web": server.app("2", public=PUBLIC), "api": server.app("1")}, "web on secondary")
    assert server.slot("web") == "secondary"
    server.close()
    left = _drained_left_over(server)
    with left:
        for container in server.ours().values():
            container.stop(timeout=0)
        server.restart()
        server.settle()
        running = {name for name, container in server.ours().items() if container.status == "running"}
    nginxes = {server.settings.edge_name, server.settings.host_name}
    assert running == {"web_secondary", "web_secondary_sidecar", "api", "api_sidecar"} | nginxes
    assert server.slot("web") == "secondary" and server.get().json["version"] == "2"
    started = [effect.model_dump().get("container", "") for effect in server.effects if effect.kind == "start"]
    assert any("sidecar" in name for name in started)


@contextlib.contextmanager
def _drained_left_over(server: Server) -> Iterator[None]:
    """A stopped container in the drained slot, as a kill in the middle of a removal leaves it."""
    live = server.container("web_secondary")
    labels = {**live.labels, "reconciler.slot": "primary", "reconciler.role": "application"}
    name = f"{server.project}_prod_web"
    with contextlib.suppress(docker.errors.NotFound):
        server.scope.client.containers.get(name).remove(force=True)
    server.scope.client.containers.create(server.images.app, name=name, labels=labels)
    yield
    with pytest.raises(docker.errors.NotFound):
        server.scope.client.containers.get(name)
