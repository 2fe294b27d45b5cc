"""Remotes that are away, kills in the middle, and starts without a remote: traffic and deploys go on (FAULTS 1, 15, 29)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.engine.settings import StatusSettings
from tests.integration.server import Server, environment, one_server  # noqa: F401 - the fixture `server`
from tests.remote import Remote
from tests.waiting import eventually

pytestmark = pytest.mark.docker

PUBLIC = {"hosts": ["shop.example"]}


def away(remote: Remote) -> Path:
    """The remote is renamed away. Returns where it is."""
    elsewhere = remote.path.with_suffix(".away")
    remote.path.rename(elsewhere)
    return elsewhere


def test_a_deploy_completes_while_its_remote_is_away_and_is_told_when_it_is_back(server: Server) -> None:
    """FAULTS 29: the commit had been fetched; the remote goes away before the gate has passed."""
    server.deploy({"web": server.app("1", public=PUBLIC)}, "one")
    server.commit({"web": server.app("2", public=PUBLIC, env={"START_DELAY": "2"})}, "two")
    server.run_until(lambda: "web_secondary" in server.ours(), 90, "the new one to be started")
    elsewhere = away(server.remote)
    try:
        server.run_until(lambda: server.get().json["version"] == "2", 90, "version 2, with the remote away")
        server.run_until(lambda: "web" not in server.ours(), 90, "the old one to be drained, with the remote away")
        ids = {"web_secondary", "web_secondary_sidecar", server.settings.edge_name, server.settings.host_name}
        server.container("web_secondary").kill()
        server.run_until(lambda: server.get().json["version"] == "2", 90, "healing, with the remote away")
        server.run_until(lambda: set(server.ids()) == ids, 90, "nothing but the new one to be there")
    finally:
        elsewhere.rename(server.remote.path)
    server.run_until(lambda: server.slot("web") == "secondary", 150, "the decision to be pushed")
    server.settle()
    assert "Reconciled" in server.conditions()
    serving = server.report().serving
    assert serving is not None and serving.generation == server.cluster().generation


def test_a_status_remote_of_its_own_that_is_away_holds_up_no_deploy(server: Server, tmp_path: Path) -> None:
    status = Remote.create(tmp_path / "status.git")
    server.settings = server.settings.model_copy(
        update={"status": StatusSettings(remote=str(status.path), max_pushes_per_minute=60)}
    )
    server.restart()
    server.deploy({"web": server.app("1", public=PUBLIC)}, "one")
    assert set(status.branches()) == {"status/cluster", f"status/{server.name}"}
    assert set(server.remote.branches()) == {"main"}, "the config repository is never written"
    elsewhere = away(status)
    try:
        server.commit({"web": server.app("2", public=PUBLIC)}, "two")
        server.run_until(lambda: server.get().json["version"] == "2", 120, "version 2, with the status remote away")
    finally:
        elsewhere.rename(status.path)
    server.run_until(lambda: "secondary" in status.show("status/cluster", "cluster.yaml"), 150, "the decision to be pushed")


def test_a_start_without_the_remote_restores_what_is_live(server: Server) -> None:
    """FAULTS 15, 29: the server booted, and the Git host is away."""
    server.deploy({"web": server.app("1", public=PUBLIC), "api": server.app("1")}, "one")
    server.close()
    elsewhere = away(server.remote)
    try:
        for container in server.ours().values():
            container.stop(timeout=0)
        server.restart()
        server.wired.cycle.recall()
        server.run_until(lambda: server.get().json["version"] == "1", 60, "web to be restored")
        server.run_until(lambda: server.get(port=server.port("api")).json["version"] == "1", 60, "api to be restored")
    finally:
        elsewhere.rename(server.remote.path)
    server.settle()
    assert server.slot("web") == "primary"


def test_branches_of_people_are_never_written(server: Server) -> None:
    server.remote.commit({"notes": "of a person"}, "notes", branch="feature")
    revision = server.deploy({"web": server.app("1")}, "one")
    branches = server.remote.branches()
    assert branches["main"] == revision and set(branches) == {"main", "feature", "status/cluster", f"status/{server.name}"}
    assert server.remote.log("feature")[0].subject == "notes"
    assert all(commit.subject.startswith(f"{server.name}: ") for commit in server.remote.log("status/cluster"))
    assert f"| {server.key('web')} |" in server.remote.show("status/cluster", "README.md")


def test_a_killed_program_is_followed_by_one_that_goes_on(server: Server) -> None:
    """FAULTS 1: SIGKILL of `reconcile --once` at several moments of an update; the next run completes it, and nothing was lost."""
    server.deploy({"web": server.app("1", public=PUBLIC)}, "one")
    server.close()
    command = [sys.executable, "-m", "reconciler", "--once"]
    moments = {
        "the new pair is made": lambda: "web_secondary_sidecar" in server.ours(),
        "the new one runs": lambda: server.container("web_secondary").status == "running",
        "it is live": lambda: server.get().json["version"] == "2",
    }
    root = Path(__file__).resolve().parents[2]
    for number, (what, moment) in enumerate(moments.items()):
        if number:
            server.commit({"web": server.app("1", public=PUBLIC)}, f"back before {what}")
            subprocess.run(command, env=environment(server), cwd=root, check=True, timeout=120, capture_output=True)
            server.commit({"web": server.app("1", public=PUBLIC, env={"N": str(number)})}, f"to primary before {what}")
            if server.slot("web") == "secondary":
                subprocess.run(command, env=environment(server), cwd=root, check=True, timeout=120, capture_output=True)
        assert server.slot("web") == "primary"
        server.commit({"web": server.app("2", public=PUBLIC, env={"N": str(number)})}, what)
        with subprocess.Popen(
            command, env=environment(server), cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            try:
                eventually(moment, 60, what)
            finally:
                os.kill(child.pid, signal.SIGKILL)
        assert server.get().status == 200, what
        subprocess.run(command, env=environment(server), cwd=root, check=True, timeout=120, capture_output=True)
        assert server.get().json["version"] == "2", what
        assert server.slot("web") == "secondary", what
        assert set(server.ids()) == {
            "web_secondary",
            "web_secondary_sidecar",
            server.settings.edge_name,
            server.settings.host_name,
        }, what
    server.restart()
