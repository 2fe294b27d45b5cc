"""Deploying to one server: what a commit does, and what it leaves alone."""

from __future__ import annotations

import re

import pytest

from tests.integration.server import FAILING, Server, listening, one_server  # noqa: F401 - the fixture `server`
from tests.waiting import eventually

pytestmark = pytest.mark.docker

PUBLIC = {"hosts": ["shop.example"]}


def test_updates_toggle_the_slots_and_an_unchanged_pass_does_nothing(server: Server) -> None:
    """I10: in a steady state there are no pushes, no reloads, no Docker writes, and one list call per pass."""
    server.deploy({"web": server.app("1", public=PUBLIC)}, "first")
    assert server.slot("web") == "primary" and server.get().json["version"] == "1"
    nginxes = {server.settings.edge_name, server.settings.host_name}
    first = server.ids()
    assert set(first) == {"web", "web_sidecar"} | nginxes

    server.deploy({"web": server.app("2", public=PUBLIC)}, "second")
    assert server.slot("web") == "secondary" and server.get().json["version"] == "2"
    second = server.ids()
    assert set(second) == {"web_secondary", "web_secondary_sidecar"} | nginxes
    assert all(second[name] == first[name] for name in nginxes)

    server.deploy({"web": server.app("3", public=PUBLIC)}, "third")
    assert server.slot("web") == "primary" and server.get().json["version"] == "3"

    with server.watching():
        server.settle()
        server.step()
        before, docker, publisher = server.ids(), server.wired.docker, server.wired.cycle.publisher
        writes, calls, pushes = docker.writes, docker.calls.copy(), publisher.count
        effects, branches = len(server.effects), server.remote.branches()
        for _ in range(5):
            server.step()
        assert docker.writes == writes
        assert dict(docker.calls - calls) == {"list": 5}
        assert (publisher.count, len(server.effects), server.remote.branches()) == (pushes, effects, branches)
        assert server.ids() == before


def test_a_commit_that_changes_nothing_of_a_service_leaves_it_alone(server: Server) -> None:
    """The comment in the commit moves the revision, not the containers."""
    services = {"web": server.app("1")}
    server.deploy(services, "first")
    before, writes = server.ids(), server.wired.docker.writes
    server.remote.commit({"README.md": "words"}, "words")
    server.settle()
    assert server.ids() == before and server.wired.docker.writes == writes


def test_a_revert_rolls_back(server: Server) -> None:
    server.deploy({"web": server.app("1", public=PUBLIC)}, "first")
    second = server.deploy({"web": server.app("2", public=PUBLIC)}, "second")
    assert server.get().json["version"] == "2"
    server.remote.revert(second)
    server.settle()
    assert server.get().json["version"] == "1" and server.slot("web") == "primary"


def test_a_failed_health_gate_leaves_the_old_one_untouched_until_a_commit_mends_it(server: Server) -> None:
    """FAULTS 9: the digest that failed is not tried again; its last words are in the status."""
    server.deploy({"web": server.app("1", public=PUBLIC)}, "good")
    before = server.ids()

    server.deploy({"web": server.app("2", public=PUBLIC, env={"FAIL_HEALTH": "1"}, health=FAILING)}, "bad")
    assert server.ids() == before
    assert server.get().json["version"] == "1"
    state = server.cluster().services[str(server.key("web"))]
    assert state.rejected is not None and "500" in state.rejected.reason
    assert "app 2 listens" in "\n".join(state.rejected.log)
    assert state.held is not None and "reconcile retry" in state.held
    assert "500" in server.conditions()

    effects = len(server.effects)
    server.settle()
    server.restart()
    server.settle()
    assert len(server.effects) == effects and server.ids() == before

    server.deploy({"web": server.app("3", public=PUBLIC)}, "mended")
    assert server.get().json["version"] == "3" and server.slot("web") == "secondary"
    assert server.cluster().services[str(server.key("web"))].rejected is None


def test_an_application_that_exits_at_once_fails_its_gate(server: Server) -> None:
    server.deploy({"web": server.app("1")}, "good")
    before = server.ids()
    server.deploy({"web": server.app("2", env={"EXIT_AT_START": "7"})}, "bad")
    assert server.ids() == before
    rejected = server.cluster().services[str(server.key("web"))].rejected
    assert rejected is not None and re.search(r"with code 7|crashed ([3-9]|\d\d+) times", rejected.reason)


def test_a_missing_image_keeps_the_old_one_and_is_taken_when_it_appears(server: Server) -> None:
    """FAULTS 11."""
    server.deploy({"web": server.app("1", public=PUBLIC)}, "good")
    before = server.ids()
    tag = f"127.0.0.1:1/{server.name}:1"  # where no registry is, which is told at once and always in the same words

    server.commit({"web": server.app("2", public=PUBLIC, image=tag)}, "an image that is not there yet")
    server.run_until(lambda: tag in server.conditions(), 60, "a status that names the image")
    commits = len(server.remote.log(f"status/{server.name}"))
    images = server.wired.docker.calls["pull"]
    server.run_until(lambda: server.wired.docker.calls["pull"] > images, 120, "a second attempt")
    assert server.ids() == before and server.get().json["version"] == "1"

    client = server.scope.client
    client.images.get(server.images.app).tag(tag)
    try:
        server.run_until(lambda: server.get().json["version"] == "2", 120, "the image to be taken")
        server.settle()
    finally:
        client.images.remove(tag, force=True)
    assert server.slot("web") == "secondary"
    told = [commit.subject for commit in server.remote.log(f"status/{server.name}")[:-commits]]
    assert not any("cannot be fetched" in subject for subject in told), "the same trouble is told once"


def test_a_command_that_does_not_exist_leaves_the_old_one_untouched(server: Server) -> None:
    server.deploy({"web": server.app("1")}, "good")
    before = server.ids()
    server.deploy({"web": server.app("2", command=["/no/such/program"])}, "bad")
    assert server.ids() == before
    rejected = server.cluster().services[str(server.key("web"))].rejected
    assert rejected is not None and "/no/such/program" in rejected.reason


def test_a_stranger_on_the_edge_port_is_told_and_holds_up_nothing_else(server: Server) -> None:
    """FAULTS 12."""
    with listening(server.edge_port):
        server.commit({"web": server.app("1", public=PUBLIC), "api": server.app("1")}, "first")
        server.run_until(lambda: str(server.edge_port) in server.conditions(), 60, "a condition that names the port")
        told = server.conditions()
        assert server.settings.edge_name in told and "in use" in told
        server.run_until(lambda: server.get(port=server.port("api")).json["version"] == "1", 60, "api on the host's loopback")
        server.commit({"web": server.app("1", public=PUBLIC), "api": server.app("2")}, "an update meanwhile")
        server.run_until(lambda: server.get(port=server.port("api")).json["version"] == "2", 60, "the update of api")
        server.settle()
    server.run_until(lambda: server.get().status == 200, 150, "the edge to come up")  # tried again every minute
    server.settle()
    assert str(server.edge_port) not in server.conditions()


def test_a_stranger_on_an_internal_port_of_the_host_costs_that_listener_alone(server: Server) -> None:
    """On the host's own loopback a collision skips that listener with a warning (DESIGN section 3)."""
    with listening(server.port("web")):
        server.deploy({"web": server.app("1", public=PUBLIC), "api": server.app("1")}, "first")
        assert server.get().json["version"] == "1"
        assert server.get(port=server.port("api")).json["version"] == "1"
        assert str(server.port("web")) in server.conditions()
    server.run_until(lambda: server.get(port=server.port("web")).json["version"] == "1", 150, "the listener to come up")


def test_a_removed_service_is_pruned_and_its_volume_kept(server: Server) -> None:
    """I9."""
    data = server.app("1", volumes={"data": "/data"}, needs={})
    server.deploy({"web": server.app("1"), "db": data, "api": server.app("1"), "more": server.app("1")}, "four")
    volume = f"{server.project}_prod_data"
    assert volume in [v.name for v in server.scope.client.volumes.list()]
    keep = {name: found for name, found in server.ids().items() if name not in ("db", "db_sidecar")}
    server.deploy({"web": server.app("1"), "api": server.app("1"), "more": server.app("1")}, "without db")
    assert server.ids() == keep
    assert str(server.key("db")) not in server.cluster().services
    assert volume in [v.name for v in server.scope.client.volumes.list()]
    assert f":{server.port('db')};" not in _listeners(server)
    server.scope.client.volumes.get(volume).remove()


def test_a_removal_of_everything_is_held_back_until_a_commit_allows_it(server: Server) -> None:
    """FAULTS 41, the brake; then the network and both nginxes go as well."""
    server.deploy({"web": server.app("1", public=PUBLIC), "api": server.app("1")}, "two")
    before = server.ids()
    file = f"projects/{server.project}/prod.yaml"
    server.remote.commit({file: None}, "oh no")
    server.settle()
    assert server.ids() == before and server.get().json["version"] == "1"
    brake = server.cluster().brake
    assert brake is not None and "allow_removals" in brake and "allow_removals" in server.conditions()

    server.restart(forget=True)
    server.settle()
    assert server.ids() == before, "the brake holds for a program that was started anew"

    inventory = f"servers: {{{server.name}: {{}}}}\nallow_removals: [{server.project}]\n"
    server.remote.commit({"cluster.yaml": inventory}, "it is meant")
    server.settle()
    assert server.ids() == {}
    assert not server.scope.client.networks.list(names=[f"{server.project}_prod_network"])
    assert server.cluster().services == {} and server.cluster().brake is None


def test_an_invalid_file_keeps_the_last_valid_revision_even_for_a_program_started_anew(server: Server) -> None:
    """FAULTS 43: invalid never means removed."""
    server.deploy({"web": server.app("1", public=PUBLIC), "api": server.app("1")}, "good")
    before = server.ids()
    file = f"projects/{server.project}/prod.yaml"
    server.remote.commit({file: "project: {name: [oops\n"}, "bad")
    server.settle()
    assert server.ids() == before
    assert f"{file}:" in server.conditions()
    for forget in (False, True):
        server.restart(forget=forget)
        server.settle()
        assert server.ids() == before, f"empty state directory: {forget}"
        assert f"{file}:" in server.conditions()
    server.container("web").remove(force=True)
    server.run_until(lambda: server.get().status == 200 and "web" in server.ids(), 90, "web to be healed while its file is invalid")
    server.deploy({"web": server.app("2", public=PUBLIC), "api": server.app("1")}, "mended")
    assert server.get().json["version"] == "2" and server.ids()["api"] == before["api"]


def test_what_runs_is_adopted_without_a_restart_from_labels_alone(server: Server) -> None:
    """First with an empty state directory, then without the status branches too, in the middle of a rejected rollout."""
    server.deploy({"web": server.app("1", public=PUBLIC), "api": server.app("1")}, "one")
    server.deploy({"web": server.app("2", public=PUBLIC), "api": server.app("1")}, "two")
    before, generation = server.ids(), server.cluster().generation
    assert "web_secondary" in before

    server.restart(forget=True)
    server.settle()
    assert server.ids() == before and server.slot("web") == "secondary"
    assert server.cluster().generation >= generation

    server.close()
    server.remote.move("status/cluster", None)
    server.remote.move(f"status/{server.name}", None)
    server.restart(forget=True)
    server.settle()
    assert server.ids() == before
    assert server.slot("web") == "secondary" and server.slot("api") == "primary"
    assert server.get().json["version"] == "2"

    server.deploy({"web": server.app("3", public=PUBLIC), "api": server.app("1")}, "three")
    assert server.slot("web") == "primary" and server.get().json["version"] == "3"
    assert server.ids()["api"] == before["api"]


def test_one_failing_service_holds_up_no_other_of_the_same_commit(server: Server) -> None:
    server.deploy(
        {"web": server.app("2", env={"FAIL_HEALTH": "1"}, health=FAILING), "api": server.app("2", public=PUBLIC)}, "half bad"
    )
    assert server.get().json["version"] == "2"
    assert set(server.ids()) == {"api", "api_sidecar", server.settings.edge_name, server.settings.host_name}


def _listeners(server: Server) -> str:
    eventually(server.host_listener)
    return (server.settings.state_dir / "nginx" / server.settings.host_name / "nginx.conf").read_text()
