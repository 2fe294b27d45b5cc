"""From a commit to traffic, in parts, and what an idle daemon weighs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from reconciler.model.report import Report
from tests.bench.conftest import Mode
from tests.bench.results import Section, spread
from tests.bench.server import Line, Server, now
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Times:
    """One toggle's moments, in s of the shared clock. `verified_ms` is what the server reports."""

    pushed: float
    seen: float
    create: float
    started: float
    healthy: float
    switch: float
    verified: float
    acknowledged: float
    done: float
    verified_ms: float

    @classmethod
    def of(cls, pushed: float, lines: list[Line], verified_ms: float) -> Times:
        """From what the daemon told."""

        def first(text: str) -> float:
            return next(line.at for line in lines if text in line.say)

        def effect(when: str, kind: str) -> float:
            return next(line.at for line in lines if (line.when, line.effect) == (when, kind))

        return cls(
            pushed,
            first(" staging: "),
            effect("before", "create"),
            effect("after", "start"),
            first(" live on "),
            effect("before", "switch"),
            effect("after", "switch"),
            first(" draining: "),
            first(" done: "),
            verified_ms,
        )


def test_a_commit_is_live_soon(server: Server, mode: Mode, report: Callable[[Section], None]) -> None:
    """No load; one service toggles; the repository is a local one, whose commits are seen at once."""
    count = mode.pick(5, 30)
    section = Section(
        "Commit to live",
        f"""{count} toggles of one service at the edge, without load, from a local bare repository (a watched directory: no poll
        is waited for). Moments on one clock: what the daemon tells before and after each effect. Median (maximum).""",
    )
    server.start()
    server.wait(server.commit({"web": server.app("0", public={"hosts": ["shop.example"]})}))
    found: list[Times] = []
    for number in range(1, count + 1):
        revision = server.commit({"web": server.app(str(number), public={"hosts": ["shop.example"]})}, f"version {number}")
        pushed = now()
        server.wait(revision)
        eventually(lambda: " done: " in "".join(line.say for line in server.since(pushed)))  # noqa: B023
        found.append(Times.of(pushed, server.since(pushed), verified_ms(server)))
    rows = [
        ["commit pushed -> fetched and decided", spread([(t.seen - t.pushed) * 1000 for t in found], "ms")],
        ["-> `docker create` begins", spread([(t.create - t.seen) * 1000 for t in found], "ms")],
        ["-> container created and started (Docker's own time)", spread([(t.started - t.create) * 1000 for t in found], "ms")],
        [
            "-> gate passed (two successes, 200 ms apart) and switch decided",
            spread([(t.healthy - t.started) * 1000 for t in found], "ms"),
        ],
        ["-> switch begins", spread([(t.switch - t.healthy) * 1000 for t in found], "ms")],
        ["-> verified: **live**", spread([(t.verified - t.switch) * 1000 for t in found], "ms")],
        ["-> acknowledged", spread([(t.acknowledged - t.verified) * 1000 for t in found], "ms")],
        ["-> old slot drained and removed", spread([(t.done - t.acknowledged) * 1000 for t in found], "ms")],
        ["**commit to live**", spread([(t.verified - t.pushed) * 1000 for t in found], "ms")],
        [
            "**commit to live, without the container's own start and health time**",
            spread([(t.verified - t.pushed - (t.healthy - t.create)) * 1000 for t in found], "ms"),
        ],
        [
            "**switch: `serving.verified_ms`** (HUP to verified; nginx itself sleeps 100 ms)",
            spread([t.verified_ms for t in found], "ms"),
        ],
        ["**switch: from the vote to the acknowledgement**", spread([(t.acknowledged - t.healthy) * 1000 for t in found], "ms")],
    ]
    section.table(["part", "median (maximum)"], rows)
    report(section)


def test_an_idle_daemon_is_light(server: Server, mode: Mode, report: Callable[[Section], None]) -> None:
    """Resident memory and CPU, git's included."""
    seconds = mode.pick(30, 180)
    section = Section(
        "Idle daemon",
        f"""The daemon's process (no status push, a poll each 30 s, Docker's events followed) with 3 services deployed, over
        {seconds} s. Memory: VmRSS and VmHWM of /proc. CPU: user and system, with git's.""",
    )
    server.start()
    public = {"public": {"hosts": ["shop.example"]}}
    services = {"web": server.app("1", **public), "api": server.app("1"), "worker": server.app("1", needs={"backend": "api"})}
    server.wait(server.commit(services))
    verified_ms(server)
    at = cpu_seconds(server.pid)
    begun = now()
    time.sleep(seconds)
    used = (cpu_seconds(server.pid) - at) * 60 / (now() - begun)
    memory = {
        name: int(value.split()[0]) / 1024
        for name, _, value in (line.partition(":") for line in Path(f"/proc/{server.pid}/status").read_text().splitlines())
        if name in ("VmRSS", "VmHWM")
    }
    section.table(
        ["resident", "peak", "CPU per minute"],
        [[f"{memory['VmRSS']:.0f} MiB", f"{memory['VmHWM']:.0f} MiB", f"{used:.2f} s ({used / 60:.1%} of a core)"]],
    )
    report(section)


def verified_ms(server: Server) -> float:
    """As the server reports it on the remote, once that speaks of the newest generation."""

    def found() -> float | None:
        cluster = server.cluster()
        told = Report.model_validate(yaml.safe_load(server.remote.show(f"status/{server.name}", "report.yaml")))
        assert cluster is not None and told.serving is not None
        return told.serving.verified_ms if told.serving.generation == cluster.generation else None

    value = eventually(found, 60, "the report of the newest generation")
    assert value is not None
    return value


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its ended children, as /proc has it (proc_pid_stat(5), fields 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
