"""From `git push` to every edge of three real servers: each with its own network, Docker daemon, nginx and daemon process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.bench.conftest import Mode
from tests.bench.results import Section, spread
from tests.cluster.bed import Bed
from tests.cluster.member import POLL, Member
from tests.cluster.namespaces import Namespace, obstacle
from tests.integration.images import Images
from tests.remote import PERSON

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

SERVERS = ("a", "b", "c")
SERVICE = "shop/prod/web"
LOOK_SECONDS = 0.05
PUSHES_MOST = 2 * len(SERVERS) + 3


@pytest.fixture
def bed(images: Images) -> Iterator[Bed]:
    """Three servers and a Git host; no daemon runs yet."""
    if problem := obstacle():
        pytest.fail(problem, pytrace=False)
    made = Bed(images)
    try:
        made.reset()
        yield made
    finally:
        made.close()


@dataclass
class Moments:
    """One toggle, in s since the push began. `edges`: when each server's edge first answered with the new version."""

    pushed: float = 0.0
    followed: float = 0.0
    ready: float = 0.0
    switched: float = 0.0
    edges: dict[str, float] = field(default_factory=dict)
    acknowledged: float = 0.0
    done: float = 0.0
    started_s: float = 0.0
    pushes: int = 0

    @property
    def live(self) -> float:
        """When the last edge answered with it."""
        return max(self.edges.values())


class Person:
    """Somebody's clone of the config repository, on a machine that is none of the servers."""

    def __init__(self, where: Namespace, url: str, directory: Path) -> None:
        self._where = where
        self._directory = directory
        where.run("git", "clone", "--quiet", url, str(directory))
        for key, value in (("user.name", PERSON["GIT_AUTHOR_NAME"]), ("user.email", PERSON["GIT_AUTHOR_EMAIL"])):
            self._git("config", key, value)

    def write(self, path: str, text: str, message: str) -> str:
        """Commit a file. Returns the commit's object id; nothing is pushed."""
        (self._directory / path).write_text(text)
        self._git("commit", "--quiet", "--all", "--message", message)
        return self._git("rev-parse", "HEAD").strip()

    def push(self) -> None:
        self._git("push", "--quiet", "origin", "HEAD:main")

    def _git(self, *arguments: str) -> str:
        return self._where.run("git", "-C", str(self._directory), *arguments)


def test_a_push_is_live_on_three_servers_soon(bed: Bed, mode: Mode, report: Callable[[Section], None], tmp_path: Path) -> None:
    """No load; one service toggles on all three, and each toggle ends before the next push."""
    count = mode.pick(3, 12)
    section = Section(
        "Commit to live over three servers",
        f"""{count} toggles of one service on three servers at once, each server with a network namespace, a Docker daemon, nginx
        and a daemon process of its own, on this one machine; the Git host answers over HTTP without latency. From the beginning
        of a person's `git push` from a fourth machine, on one clock, looked at every {LOOK_SECONDS * 1000:.0f} ms. The servers poll
        every {POLL[:-1]} s (the setting's default is 30 s: add what is left of it to the second part), without load. Median
        (maximum). Pushes: of all servers together, at most {PUSHES_MOST} for each toggle (asserted).""",
    )
    bed.begin({"web": bed.web("1", servers_count=3)}, bed.inventory(*SERVERS))
    person = Person(bed.client.namespace, bed.git_host.url(bed.remote), tmp_path / "clone")
    found = [_toggle(bed, person, str(number)) for number in range(2, count + 2)]
    rows = [
        ["`git push` -> landed at the Git host", _spread([m.pushed for m in found])],
        ["-> fetched, and the first decision (staging) landed", _spread([m.followed - m.pushed for m in found])],
        ["-> started and healthy on all three, and told", _spread([m.ready - m.followed for m in found])],
        ["-> the switch decided and landed", _spread([m.switched - m.ready for m in found])],
        ["-> the last edge serves it: **live**", _spread([m.live - m.switched for m in found])],
        ["-> acknowledged by all three", _spread([m.acknowledged - m.live for m in found])],
        ["-> done", _spread([m.done - m.acknowledged for m in found])],
        ["between the first edge and the last", _spread([m.live - min(m.edges.values()) for m in found])],
        ["**push to live on every edge**", _spread([m.live for m in found])],
        [
            "**push to live, without the slowest container's own start and health time**",
            _spread([m.live - m.started_s for m in found]),
        ],
        ["pushes of all servers for one toggle", spread([m.pushes for m in found], "").strip()],
    ]
    section.table(["part", "median (maximum)"], rows)
    report(section)
    assert max(m.pushes for m in found) <= PUSHES_MOST


def _toggle(bed: Bed, person: Person, version: str) -> Moments:
    """Push a version and watch it go live everywhere."""
    services = {"project": {"name": "shop", "services": {"web": bed.web(version, servers_count=3)}}}
    revision = person.write("projects/shop/prod.yaml", json.dumps(services, indent=1), f"Bump web to {version}")
    before = bed.git_host.pushes
    moments, began = Moments(), time.monotonic()

    def now() -> float:
        return time.monotonic() - began

    watchers = [threading.Thread(target=_watch_edge, args=(bed.server(s), version, moments, now), daemon=True) for s in SERVERS]
    for watcher in watchers:
        watcher.start()
    person.push()
    moments.pushed = now()
    tips: dict[str, str] = {}
    while not moments.done:
        assert now() < 180, bed.story()
        branches = {name: sha for name, sha in bed.remote.branches().items() if name.startswith("status/")}
        if branches != tips:
            tips = branches
            _look(bed, revision, tips, moments, now())
        time.sleep(LOOK_SECONDS)
    for watcher in watchers:
        watcher.join(30)
    assert set(moments.edges) == set(SERVERS), moments
    bed.settle(revision, *SERVERS)
    moments.pushes = bed.git_host.pushes - before - 1  # the person's own
    return moments


def _look(bed: Bed, revision: str, tips: dict[str, str], moments: Moments, at: float) -> None:
    """Write down what the status branches say for the first time."""
    cluster = bed.cluster(tips["status/cluster"])
    rollout = cluster.services[SERVICE].rollout
    if rollout is None or rollout.revision != revision:
        return  # not staged yet: the last rollout's old nginx workers may be waited for
    moments.followed = moments.followed or at
    reports = [bed.report(name, tips[f"status/{name}"]) for name in SERVERS]
    votes = [e for r in reports for e in r.instances if e.rollout == rollout.id and e.phase in ("ready", "live")]
    if len(votes) == len(SERVERS) and not moments.ready:
        moments.ready = at
        moments.started_s = max(entry.after_s or 0.0 for entry in votes)
    if rollout.switched_at is None:
        return
    moments.ready = moments.ready or at  # the last vote came with the decision, in one push
    moments.switched = moments.switched or at
    newest = {(r.serving.epoch, r.serving.generation >= rollout.switched_at) for r in reports if r.serving is not None}
    if newest == {(cluster.epoch, True)}:
        moments.acknowledged = moments.acknowledged or at
    if rollout.phase == "done":
        moments.acknowledged = moments.acknowledged or at
        moments.done = at


def _watch_edge(server: Member, version: str, moments: Moments, now: Callable[[], float]) -> None:
    """Until this server's edge answers with the version."""
    while now() < 180:
        if server.version() == version:
            moments.edges[server.name] = now()
            return
        time.sleep(LOOK_SECONDS)


def _spread(seconds: list[float]) -> str:
    return spread(seconds, "s", 2)
