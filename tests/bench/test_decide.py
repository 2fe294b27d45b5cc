"""The shared decision and a server's plan, with 1,000 services on 50 servers: pure functions, timed and profiled."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections.abc import Callable
from typing import Literal

from reconciler.model.cluster import Decider
from reconciler.model.observed import Elapsed, Observed
from reconciler.plan.awaited import awaited
from reconciler.plan.decide import decide
from reconciler.plan.planner import plan
from reconciler.plan.reporting import report as make_report
from tests.bench.conftest import Mode
from tests.bench.results import Section
from tests.plan.large import Large

SERVICES, SERVERS, PLACES = 1000, 50, 3
MOST_MS = 200.0
NOTHING = Elapsed(seconds={})
PHASES: tuple[Literal["done", "staging", "switching"], ...] = ("done", "staging", "switching")


def test_decide_and_plan_take_less_than_200_ms(mode: Mode, report: Callable[[Section], None]) -> None:
    repeat = mode.pick(5, 10)
    section = Section(
        "Decide and plan",
        f"""{SERVICES} services, each on {PLACES} of {SERVERS} servers, all of them in the same phase at once; every other one has a
        sidecar. CPU of one call: best (median) of {repeat}. Asserted: less than {MOST_MS:.0f} ms for the best of `decide` and of
        `plan`. That they grow linearly is asserted by counts, in `tests/plan/test_growth.py`.""",
    )
    rows: list[list[object]] = []
    slow = []
    for phase in PHASES:
        for name, call in calls(Large(SERVICES, SERVERS, PLACES, phase)).items():
            times = [timed(call) for _ in range(repeat)]
            rows.append([phase, f"`{name}`", f"{min(times):.0f} ({statistics.median(times):.0f})", hottest(call)])
            if name in ("decide", "plan") and min(times) >= MOST_MS:
                slow.append(f"{name} in {phase}: {min(times):.0f} ms")
    section.table(["all services are", "function", "CPU, ms", "most time of its own"], rows)
    report(section)
    assert not slow, slow


def calls(large: Large) -> dict[str, Callable[[], object]]:
    """What is timed, on the first server. As in a pass, what is observed is new each time: nothing is known of it from before."""
    want, cluster, reports = large.desired(), large.cluster(), large.reports()
    site, intended, seen = large.site(), large.intended(), dict(large.observed())
    decider, own = Decider(server="s00", program="1"), reports["s00"]

    def observed() -> Observed:
        return Observed.model_construct(**seen)

    return {
        "decide": lambda: decide(want, cluster, reports, NOTHING, decider=decider, fresh_epoch="e"),
        "plan": lambda: plan(want, cluster, observed(), NOTHING, site, intended),
        "report": lambda: make_report(want, cluster, observed(), site, intended, None, identity="i", program="1", elapsed=NOTHING),
        "awaited": lambda: awaited(cluster, own, own.model_copy(update={"retired": 1})),
    }


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of this thread's CPU."""
    began = time.thread_time()
    call()
    return (time.thread_time() - began) * 1000


def hottest(call: Callable[[], object]) -> str:
    """The two functions in which a call spends most time of their own."""
    profile = cProfile.Profile()
    profile.runcall(call)
    stats = pstats.Stats(profile)
    total = stats.total_tt or 1.0  # type: ignore[attr-defined]
    own = sorted(((tt, name) for name, (_, _, tt, _, _) in stats.stats.items()), reverse=True)[:2]  # type: ignore[attr-defined]
    return ", ".join(f"`{name[2]}` {tt / total:.0%}" for tt, name in own)
