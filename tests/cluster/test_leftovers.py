"""What a killed run of the cluster tests leaves is found and removed, and nothing of a run that goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.namespaces import BEING_MADE, NETNS, OWNER, PREFIX, Ground, alive, obstacle, place, processes_of, run, sweep

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
ROOT = Path(__file__).resolve().parents[2]
RUN = """
import time
from tests.cluster.engines import Engine
from tests.cluster.namespaces import Ground
ground = Ground.lay()
server = ground.add("a", 11)
Engine(server, ground.directory / "a" / "docker").start()
print(ground.directory.name, flush=True)
time.sleep(600)
"""


@pytest.fixture
def going_on() -> Iterator[Ground]:
    """A ground of this very process."""
    assert obstacle() is None
    ground = Ground.lay()
    ground.add("a", 11)
    yield ground
    ground.clear()


def namespaces(name: str) -> set[str]:
    return {path.name for path in NETNS.glob(f"{name}-*")}


def test_a_killed_runs_daemons_namespaces_and_files_are_removed_and_those_of_a_run_that_goes_on_stay(going_on: Ground) -> None:
    killed = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    name = killed.stdout.readline().strip()
    stray = subprocess.Popen(["nsenter", f"--net={NETNS / name}-a", "--", "sleep", "600"])  # nothing in its words says whose it is
    killed.kill()
    killed.wait()
    daemons = processes_of(place(name))
    assert len(daemons) >= 2, "a Docker daemon and its containerd outlive the run"
    assert name in sweep()
    assert not any(alive(pid) for pid in daemons) and processes_of(place(name)) == []
    assert stray.wait(10) != 0
    assert not place(name).exists() and namespaces(name) == set()
    assert not any(name in line for line in Path("/proc/mounts").read_text().splitlines())
    mine = going_on.directory
    assert (mine / OWNER).exists() and namespaces(mine.name) == {f"{mine.name}-switch", f"{mine.name}-a"}


def test_namespaces_without_a_directory_and_old_directories_without_an_owner_are_removed(going_on: Ground) -> None:
    lost, nobodys, new = (f"{PREFIX}{uuid.uuid4().hex[:4]}" for _ in range(3))
    run("ip", "netns", "add", f"{lost}-switch")
    for name in (nobodys, new):
        place(name).mkdir()
    long_ago = time.time() - BEING_MADE - 1
    os.utime(place(nobodys), (long_ago, long_ago))
    try:
        removed = sweep()
        assert {lost, nobodys} <= set(removed) and new not in removed and going_on.directory.name not in removed
        assert namespaces(lost) == set() and not place(nobodys).exists() and place(new).exists()
    finally:
        place(new).rmdir()
