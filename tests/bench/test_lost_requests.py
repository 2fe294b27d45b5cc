"""Requests lost while versions change: by the product none, by a deployer without its remedies many."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import docker
import pytest
from load import Plan

from tests.bench.conftest import Mode
from tests.bench.naive import Naive
from tests.bench.private_engine import PrivateEngine
from tests.bench.results import Section, spread
from tests.bench.server import Line, Server, now
from tests.bench.traffic import SECONDS_MOST, SHOP, Tally, services, start, traffic
from tests.integration.conftest import Scope
from tests.integration.images import Images, copy
from tests.remote import Remote
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

HEAD = ("faults, one in each commit", "toggles", "seconds", "lost, of all sent", "websockets asked to come back", "slowest POST")


def test_toggles_lose_nothing_and_a_naive_deployer_does(
    server: Server, images: Images, mode: Mode, free_port: Callable[[], int], tmp_path: Path, report: Callable[[Section], None]
) -> None:
    """0 of all requests, over 50 commits that toggle two services each; beside it the same load over a naive deployer's toggles."""
    section = Section(
        "Requests lost",
        """Two services (HTTP at the edge, raw TCP in the mesh) toggle together, again and again, each time to a new version,
        under 40 keep-alive POST clients (10 a second each; the body's hash is checked), 6 slow GETs (1 s), 6 websockets that
        echo (policy `signal`), 2 slow uploads (3 s), 8 TCP clients of the host listener and 4 requests at a time through a
        consumer container's sidecar. A toggle ends when the old slots have drained and are removed. Lost: any error, wrong
        answer or end without a close frame. The naive deployer uses the same images and load: plain configuration, `nginx -s
        reload`, stop.""",
    )
    count, naive_count = mode.pick(5, 50), mode.pick(30, 50)  # without remedies a toggle is quick, and loses by chance
    first(server)
    before = server.since(0)[-1].at
    started = now()
    with under_load(server) as tally:
        for number in range(1, count + 1):
            server.wait(server.commit(services(server, str(number)), f"version {number}"))
    took = now() - started
    switches = switch_times(server.since(before))
    mesh = free_port()
    naive = Naive(
        Scope(server.client, f"{server.name}_naive", {"reconciler-test.scope": server.name}), images, tmp_path, free_port(), mesh
    )
    naive.up()
    naive_started = now()
    with traffic(naive.edge_port, mesh, mesh) as lost:
        for number in range(1, naive_count + 1):
            naive.toggle(str(number))
            time.sleep(1)  # the product's toggles are further apart than this, too
    kinds = list(tally.sent)
    rows = [
        [name, f"{done} commits, {2 * done} toggles", f"{seconds:.0f}", *(found.cells()[kind] for kind in kinds)]
        for name, done, seconds, found in (
            ("this product", count, took, tally),
            ("naive", naive_count, now() - naive_started, lost),
        )
    ]
    section.table(["deployer", "toggles", "seconds", *kinds], rows)
    section.say(
        f"In all: **{tally.lost} lost of {sum(tally.sent.values()):,}** against {lost.lost} of {sum(lost.sent.values()):,}. "
        f"Slowest POST: {tally.slowest_ms['POST, keep-alive']:.0f} ms against {lost.slowest_ms['POST, keep-alive']:.0f} ms."
    )
    section.say(
        f"One switch (all nginxes of the server: write, `nginx -t`, HUP, verified), median (maximum) of {len(switches)}: "
        f"{spread(switches, 'ms')}, under this load."
    )
    if lost.errors:
        section.say(
            "What the naive deployer's clients saw, for example: "
            + "; ".join(f"`{e.split(' ', 2)[2][:110]}`" for e in examples(lost))
        )
    report(section)
    assert tally.lost == 0, told(tally, server)
    assert lost.lost > 0, "the load found nothing wrong with the naive deployer: it proves nothing"


def test_a_killed_daemon_loses_nothing(server: Server, mode: Mode, report: Callable[[Section], None]) -> None:
    """FAULTS 1: SIGKILL after the first, the second, ... effect of a toggle, and a restart."""
    section = Section(
        "Requests lost: daemon killed",
        """As above; in each toggle the daemon is killed (SIGKILL) after another effect (create, start, switch, stop, remove, in
        turn) and started again at once.""",
    )
    count = mode.pick(4, 20)
    first(server)
    effects = len([line for line in toggled(server, "probe") if line.when])
    started = now()
    killed_after: list[str] = []
    with under_load(server) as tally:
        for number in range(count):
            position = 1 + number * (effects - 1) // max(1, count - 1)
            begun = now()
            revision = server.commit(services(server, f"k{number}"), f"version k{number}")
            reach(server, revision, begun, position)
            server.kill()
            last = done_effects(server, begun)[-1:]
            killed_after += [f"{line.when} {line.effect}" for line in last]
            server.start()
            server.wait(revision)
    section.table(HEAD, [row(count, now() - started, tally)])
    section.say("Killed: " + ", ".join(f"{killed_after.count(name)} {name}" for name in sorted(set(killed_after))) + ".")
    report(section)
    assert tally.lost == 0, told(tally, server)


def test_a_frozen_daemon_loses_nothing(server: Server, mode: Mode, report: Callable[[Section], None]) -> None:
    """FAULTS 2: SIGSTOP in the middle of a toggle, and SIGCONT."""
    long, short = mode.pick(0, 10), mode.pick(3, 0)
    section = Section(
        "Requests lost: daemon frozen",
        f"""As above; in each commit's two toggles the daemon is stopped (SIGSTOP) after another effect, for
        {60 if long else 5} s.""",
    )
    first(server)
    effects = len([line for line in toggled(server, "probe") if line.when])
    started = now()
    with under_load(server) as tally:
        for number in range(long + short):
            position = 1 + number * (effects - 1) // max(1, long + short - 1)
            begun = now()
            revision = server.commit(services(server, f"s{number}"), f"version s{number}")
            reach(server, revision, begun, position)
            server.send(signal.SIGSTOP)
            time.sleep(60 if number < long else 5)
            server.send(signal.SIGCONT)
            server.wait(revision)
    section.table(HEAD, [row(long + short, now() - started, tally)])
    report(section)
    assert tally.lost == 0, told(tally, server)


def test_a_restarted_docker_loses_nothing(
    images: Images,
    docker_client: docker.DockerClient,
    git_remote: Remote,
    tmp_path: Path,
    free_port: Callable[[], int],
    mode: Mode,
    report: Callable[[Section], None],
) -> None:
    """FAULTS 8: dockerd stops and starts in the middle of a toggle, with `live-restore`."""
    section = Section(
        "Requests lost: Docker restarted",
        """As above, on a dockerd of the bench's own with `live-restore`; in each toggle it is stopped (SIGTERM) after another
        effect and started again. HTTP clients are inside the edge's network namespace: Docker's own forwarding of published
        ports on the loopback address (docker-proxy) ends with dockerd, whatever runs behind it. What one client sees there is
        in the last column.""",
    )
    count = mode.pick(2, 20)
    engine = PrivateEngine()
    server = None
    try:
        engine.start()
        copy(docker_client, engine.client(), (images.nginx, images.app))
        name = f"test-{uuid.uuid4().hex[:8]}"
        server = Server(name, engine.client(), images, git_remote, tmp_path, free_port, engine.url, engine.prefix)
        first(server)
        effects = len([line for line in toggled(server, "probe") if line.when])
        inside = ("nsenter", f"--net=/proc/{server.pid_of(server.edge_name)}/ns/net")
        port, started = server.port("echo"), now()
        outside = Plan(f"http://127.0.0.1:{server.edge_port}", SECONDS_MOST, SHOP, gets=1, pause=0.05)
        published = start(outside, engine.prefix)
        with traffic(server.edge_port, port, port, edge=inside, host=engine.prefix) as tally:
            for number in range(count):
                begun = now()
                revision = server.commit(services(server, f"d{number}"), f"version d{number}")
                reach(server, revision, begun, 1 + number * (effects - 1) // max(1, count - 1))
                engine.restart()
                server.wait(revision, 180)
        through = published.stop()
        column = f"{through.failed} of {through.sent}"
        section.table((*HEAD, "GET through docker-proxy"), [[*row(count, now() - started, tally), column]])
        report(section)
        assert tally.lost == 0, told(tally, server)
    finally:
        if server is not None:
            server.end()
        engine.remove()


# --- parts


def first(server: Server) -> None:
    """Everything up in its first version."""
    server.start()
    server.wait(server.commit(services(server, "0"), "first version"))


def toggled(server: Server, version: str) -> Sequence[Line]:
    """What the daemon does for one toggle without load."""
    begun = now()
    server.wait(server.commit(services(server, version), f"version {version}"))
    return server.since(begun)


def done_effects(server: Server, begun: float) -> list[Line]:
    """Effects told since a moment, before and after."""
    return [line for line in server.since(begun) if line.when]


def reach(server: Server, revision: str, begun: float, effects: int) -> None:
    """Wait until so many effects were told since a moment, or everything is over."""
    eventually(lambda: len(done_effects(server, begun)) >= effects or server.done(revision), 90, server.story)


def under_load(server: Server) -> AbstractContextManager[Tally]:
    """The load on this server's own addresses."""
    return traffic(server.edge_port, server.port("echo"), server.port("echo"))


def switch_times(lines: Sequence[Line]) -> list[float]:
    """Milliseconds of each switch."""
    found, begun = [], None
    for line in lines:
        if line.effect == "switch":
            if line.when == "before":
                begun = line.at
            elif begun is not None:
                found.append((line.at - begun) * 1000)
    return found


def row(count: int, seconds: float, tally: Tally) -> list[object]:
    back = tally.reconnects.get("websocket", 0)
    lost = f"**{tally.lost}** of {sum(tally.sent.values()):,}"
    return [count, 2 * count, f"{seconds:.0f}", lost, back, f"{tally.slowest_ms['POST, keep-alive']:.0f} ms"]


def examples(tally: Tally) -> list[str]:
    """One error of each kind."""
    found: dict[str, str] = {}
    for error in tally.errors:
        found.setdefault(error.split(":", 1)[0], error)
    return list(found.values())


def told(tally: Tally, server: Server) -> str:
    return "\n".join([str(tally.cells()), *tally.errors, server.story()])
