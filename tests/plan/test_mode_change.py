"""A rolling rollout that publishes a service, as its server is no longer alone: who gets a route to it, and what goes back."""

from __future__ import annotations

from typing import Literal

import pytest

from reconciler.model.cluster import Backend, Live, Role, Rollout, ServiceState
from reconciler.model.identity import Slot
from reconciler.plan.switching import knows_only_the_old
from reconciler.plan.upstreams import Reachable
from tests.plan.build import key, service, story
from tests.plan.server import Server

AB = ("a", "b")


def backend(server: str, slot: Slot, role: Role, port: int | None, spec: str) -> Backend:
    """One instance; `port` None: it is not published."""
    return Backend(server=server, slot=slot, port=port, container_port=80, spec=spec, role=role)


def line(*backends: Backend, live: str = "x1", returned: str | None = None) -> ServiceState:
    """A rolling rollout of x2 over x1."""
    phase: Literal["switching"] = "switching"
    rollout = Rollout(
        id="0000002/1",
        target="x2",
        revision="2" * 40,
        strategy="rolling",
        phase=phase,
        switched_at=3,
        batch=() if returned else ("a",),
        switched=("a",),
        returned=returned,
        cause="publish",
    )
    known = Live(spec=live, revision="1" * 40)
    return ServiceState(internal_port=5001, container_port=80, live=known, rollout=rollout, backends=backends)


def listed(state: ServiceState, on: str) -> list[str] | None:
    """The peers of the service's upstream on a server; None when it has no route."""
    there = Server(story(service(servers=("a",)), servers=AB)).calm()
    assert there.story.cluster is not None
    observed = there.observe().model_copy(update={"server": on})
    upstream = Reachable(there.story.want, there.story.cluster, observed).upstream(key(), state, by_name=False)
    return [peer.address for peer in upstream.peers] if upstream is not None else None


SWITCHED = (backend("a", "secondary", "live", 18100, "x2"), backend("a", "primary", "kept", None, "x1"))


def test_a_server_that_had_no_route_to_the_live_version_gets_none_while_the_line_may_go_back() -> None:
    assert listed(line(*SWITCHED), on="b") is None
    own = listed(line(*SWITCHED), on="a")
    assert own is not None and [address.rpartition(":")[2] for address in own] == ["80", "80"], "its fixed addresses"


def test_at_the_end_of_the_line_everybody_has_one() -> None:
    ended = line(SWITCHED[0], backend("a", "primary", "draining", None, "x1"), live="x2")
    assert listed(ended, on="b") == ["10.0.0.1:18100"]


def test_a_published_line_is_reached_from_everywhere_all_along() -> None:
    there = line(backend("a", "secondary", "live", 18100, "x2"), backend("a", "primary", "kept", 8100, "x1"))
    assert listed(there, on="b") == ["10.0.0.1:18100", "10.0.0.1:8100"]


@pytest.mark.parametrize("member", AB)
@pytest.mark.parametrize(("port", "waits"), [(None, True), (8100, False)], ids=["not published", "published"])
def test_on_the_way_back_who_knows_only_what_was_published_is_waited_for(port: int | None, waits: bool, member: str) -> None:
    back = line(
        backend("a", "secondary", "draining", 18100, "x2"), backend("a", "primary", "live", port, "x1"), returned="overtaken"
    )
    assert back.rollout is not None
    assert knows_only_the_old(back, back.rollout, member) is waits
