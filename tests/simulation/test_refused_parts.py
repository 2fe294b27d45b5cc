"""One service that an nginx of one server does not take: its rollout waits for that server, by name, and no other does."""

from __future__ import annotations

from typing import Any

from reconciler.model.report import Report
from reconciler.plan.reporting import report
from tests.simulation.rules import Rules
from tests.simulation.shrinking import outcome
from tests.simulation.trace import Commit, Event, Fault, Machine, Pass, Scene
from tests.simulation.versions import Service
from tests.simulation.world import Broken, World

API, WEB = Service("api", count=2, sidecar=False), Service("web", count=2, sidecar=False, public=True)


def passes(seconds: int) -> tuple[Event, ...]:
    """Both servers, one after the other."""
    return tuple(Pass(0.5, server) for _ in range(seconds) for server in ("a", "b"))


def scene(*, waits: int) -> Scene:
    """Both services are live and are then updated, after a's nginxes have begun to refuse changes of web."""
    machines = (Machine("a", "zone1"), Machine("b", "zone1"))
    events = (*passes(60), Fault(0.1, "refuse", "a", pick=1), Commit(0.1, "all"), *passes(waits))
    return Scene(0, machines, (API, WEB), events)


def phases(made: World) -> dict[str, str]:
    """The phase of each service's rollout, as decided last."""
    assert made.remote.cluster is not None
    services = made.remote.cluster.services
    return {name.rpartition("/")[2]: state.rollout.phase for name, state in services.items() if state.rollout is not None}


def without_peace(waits: int) -> World:
    """The scene up to its last event."""
    made = World(scene(waits=waits))
    for event in made.scene.events:
        made.happens(event)
    return made


def test_the_rollout_of_the_refused_service_waits_and_the_other_one_is_done() -> None:
    made = without_peace(40)
    assert phases(made) == {"api": "done", "web": "switching"}
    serving = made.remote.reports()["a"].serving
    assert serving is not None and serving.without == ("shop/prod/web",)
    assert made.remote.reports()["b"].serving is not None


def test_with_the_fault_over_both_are_done_and_nothing_was_taken_away_too_early() -> None:
    assert outcome(scene(waits=40), Rules()) is None


def test_after_the_timeout_the_old_slot_goes_as_the_stale_nginx_reaches_the_new_one() -> None:
    made = without_peace(150)
    assert phases(made) == {"api": "done", "web": "done"}
    assert outcome(scene(waits=150), Rules()) is None


def test_an_acknowledgement_that_does_not_name_the_service_would_take_away_what_is_used() -> None:
    def silent(*given: Any, **named: Any) -> Report:
        made = report(*given, **named)
        if made.serving is None:
            return made
        return made.model_copy(update={"serving": made.serving.model_copy(update={"without": ()})})

    broken = outcome(scene(waits=40), Rules(report=silent))
    assert isinstance(broken, Broken) and broken.invariant == "I5"
