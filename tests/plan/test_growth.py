"""`decide` and `plan` grow with the number of services and not with its square: counted in executed lines, not in time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal

import pytest

from reconciler.model.cluster import Decider
from reconciler.model.observed import Elapsed
from reconciler.plan.awaited import awaited, telling
from reconciler.plan.decide import Decision, decide
from reconciler.plan.planner import plan
from reconciler.plan.reporting import report
from tests.plan.large import Large

SMALL, TIMES = 60, 4
SLACK = 1.25
NOTHING = Elapsed(seconds={})


def lines(call: Callable[[], object]) -> int:
    """How many lines of this project `call` executes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if "/reconciler/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def calls(large: Large) -> dict[str, Callable[[], object]]:
    """What a pass asks of the pure functions, on the first server, to which each service belongs."""
    want, cluster, reports = large.desired(), large.cluster(), large.reports()
    observed, site, intended = large.observed(), large.site(), large.intended()
    decider = Decider(server="s00", program="1")
    own = reports["s00"]
    return {
        "decide": lambda: decide(want, cluster, reports, NOTHING, decider=decider, fresh_epoch="e"),
        "plan": lambda: plan(want, cluster, observed, NOTHING, site, intended),
        "report": lambda: report(want, cluster, observed, site, intended, None, identity="i", program="1", elapsed=NOTHING),
        "awaited": lambda: (awaited(cluster, own, own.model_copy(update={"retired": 1})), telling(own, own)),
    }


@pytest.mark.parametrize("phase", ["done", "staging", "switching"])
def test_four_times_the_services_cost_four_times_the_work(phase: Literal["done", "staging", "switching"]) -> None:
    """All services on the same three servers: what looks through a server's instances for each of them would take 16 times."""
    small, large = calls(Large(SMALL, 3, 3, phase)), calls(Large(SMALL * TIMES, 3, 3, phase))
    for name, call in small.items():
        few, many = lines(call), lines(large[name])
        assert many <= few * TIMES * SLACK, f"{name}, {phase}: {few} lines for {SMALL} services, {many} for {SMALL * TIMES}"


@pytest.mark.parametrize(("phase", "number"), [("done", 0), ("staging", SMALL), ("switching", SMALL)])
def test_what_is_counted_is_a_decision_about_each_service(phase: Literal["done", "staging", "switching"], number: int) -> None:
    found = calls(Large(SMALL, 3, 3, phase))["decide"]()
    assert isinstance(found, Decision) and len(found.reasons) == number


def test_more_servers_with_as_many_instances_cost_no_more_than_their_number() -> None:
    """The same services and places on ten times the servers: a member is looked at once for each service at most."""
    few, many = (calls(Large(100, servers, 3, "switching"))["decide"] for servers in (5, 50))
    assert lines(many) <= lines(few) * 10
