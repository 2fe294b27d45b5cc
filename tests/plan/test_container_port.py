"""A version that listens on another port than the one before: every slot is reached at its own, in the text that nginx gets."""

from __future__ import annotations

import re

import pytest

from reconciler.model.cluster import Backend, Role, ServiceState
from reconciler.model.identity import Slot
from reconciler.plan import facts
from reconciler.plan.placed import stands_behind
from reconciler.plan.upstreams import Reachable
from reconciler.ports import host_port
from reconciler.render.nginx import render
from tests.plan.build import Story, key, service, story
from tests.plan.server import Server

AB = ("a", "b")
OLD, NEW = 3000, 8080


def servers_of(there: Server, nginx: str = "nginx_host") -> list[str]:
    """Address and `backup` of each `server` line of an nginx's only upstream, as rendered."""
    observed = there.observe()
    found = re.findall(r"server (\S+)(.*?);", render(there.intended(observed)[nginx].config).text)
    return [address + (" backup" if "backup" in options.split() else "") for address, options in found]


def changing(*, publish: bool = False, servers: tuple[str, ...] = ("a",), members: tuple[str, ...] = (), to: int = NEW) -> Server:
    """x2 listens on `to`, is staged over x1 on OLD, and is healthy on server a."""
    there = Server(story(service(port=OLD, publish=publish, servers=servers), servers=members or servers)).calm()
    if publish:
        state, first = there.story.state(), host_port("shop", "prod", "web", OLD)
        backends = tuple(backend.model_copy(update={"port": first}) for backend in state.backends)
        services = {"shop/prod/web": state.model_copy(update={"backends": backends})}
        there.story.cluster = there.story.cluster.model_copy(update={"services": services})  # type: ignore[union-attr]
    there.story.commit(service(digest="x2", port=to, publish=publish, servers=servers), revision=2).decide()
    there.carry_out()
    there.carry_out()
    return there


def report(told: Story, servers: tuple[str, ...]) -> None:
    """Every server reports the host ports of its instances."""
    told.obey()
    first = host_port("shop", "prod", "web", OLD)
    for name in servers if told.want.services[key()].spec.publish else ():
        entries = tuple(
            entry.model_copy(update={"port": first if entry.slot == "primary" else first + 10000})
            for entry in told.reports[name].instances
        )
        told.reports[name] = told.reports[name].model_copy(update={"instances": entries})


def switch(there: Server, servers: tuple[str, ...] = ("a",)) -> None:
    """x2 has the traffic."""
    report(there.story, servers)
    there.story.decide()
    assert there.story.phase() == "switching"


def pair(there: Server) -> tuple[str, str]:
    """The fixed addresses of both slots."""
    found = there.observe().pair(key(), 1)
    assert found is not None
    return found


def test_each_slot_of_one_server_is_written_with_the_port_that_it_listens_on() -> None:
    there = changing()
    primary, secondary = pair(there)
    switch(there)
    assert servers_of(there) == [f"{secondary}:{NEW}", f"{primary}:{OLD} backup"]


def test_once_the_old_one_is_gone_its_slot_is_written_as_the_next_version_would_have_it() -> None:
    there = changing()
    primary, secondary = pair(there)
    switch(there)
    before = there.story.cluster
    there.story.settle()
    assert servers_of(there) == [f"{secondary}:{NEW}", f"{primary}:{NEW} backup"]
    assert before is not None and there.story.cluster is not None
    assert there.story.cluster.generation == before.generation + 1, "another text for a generation would be another meaning of it"


def test_a_version_on_the_same_port_changes_no_text_when_the_old_one_is_gone() -> None:
    there = Server(story(service())).calm()
    there.story.commit(service(digest="x2"), revision=2).decide()
    there.carry_out()
    there.carry_out()
    switch(there)
    text, generation = servers_of(there), there.story.cluster.generation  # type: ignore[union-attr]
    there.story.settle()
    assert servers_of(there) == text
    assert there.story.cluster.generation == generation  # type: ignore[union-attr]


def test_published_slots_keep_their_pair_of_host_ports_whatever_the_container_port_is() -> None:
    """Other servers' configurations of any age find either slot: that is worth more than the number that the new port would give.

    On their own server they are reached at their fixed addresses, each at the port that it listens on.
    """
    there = changing(publish=True, servers=AB)
    primary, secondary = pair(there)
    first = host_port("shop", "prod", "web", OLD)
    assert first != host_port("shop", "prod", "web", NEW)
    (publish,) = there.box("shop_prod_web_secondary").plan.publish
    assert (publish.host_port, publish.container_port) == (first + 10000, NEW)
    switch(there, AB)
    assert servers_of(there) == [
        f"10.0.0.2:{first + 10000}",
        f"{secondary}:{NEW}",
        f"10.0.0.2:{first} backup",
        f"{primary}:{OLD} backup",
    ]


def test_once_the_old_one_is_gone_its_published_slot_is_written_for_its_own_server_as_the_next_version_would_have_it() -> None:
    there = changing(publish=True, servers=AB)
    primary, _ = pair(there)
    switch(there, AB)
    before = there.story.cluster
    there.story.settle()
    assert f"{primary}:{NEW} backup" in servers_of(there)
    assert before is not None and there.story.cluster is not None
    assert there.story.cluster.generation == before.generation + 1, "another text for a generation would be another meaning of it"


def test_a_recorded_host_port_wins_over_the_computed_one() -> None:
    there = changing(publish=True, servers=AB)
    switch(there, AB)
    state = there.story.state()
    odd = tuple(b.model_copy(update={"port": 8999}) if (b.server, b.role) == ("b", "draining") else b for b in state.backends)
    upstream = there_upstream(there, state.model_copy(update={"backends": odd}))
    assert upstream[3] == "10.0.0.2:8999"


def there_upstream(there: Server, state: ServiceState) -> list[str]:
    """The peers of the service in another state."""
    assert there.story.cluster is not None
    reach = Reachable(there.story.want, there.story.cluster, there.observe())
    upstream = reach.upstream(key(), state, by_name=False)
    assert upstream is not None
    return [peer.address for peer in upstream.peers]


def test_a_service_that_is_published_now_has_its_old_slot_behind_it_where_that_can_be_reached() -> None:
    there = Server(story(service(port=OLD, servers=("a",)), servers=AB)).calm()
    primary, secondary = pair(there)
    there.story.commit(service(digest="x2", port=OLD, publish=True, servers=("a",)), revision=2).decide()
    there.carry_out()
    there.carry_out()
    switch(there, AB)
    assert servers_of(there) == [f"{secondary}:{OLD}", f"{primary}:{OLD} backup"]


# The barrier


def silent(there: Server, *others: str) -> Story:
    """Server a says nothing after the switch, for longer than ack_timeout; the others acknowledge it."""
    told = there.story
    told.obey(only=others)
    rollout = told.state().rollout
    assert rollout is not None
    told.elapsed = {facts.staging("shop/prod/web", rollout): told.want.ack_timeout}
    told.decide()
    return told


def test_a_silent_member_that_knows_only_the_old_port_is_waited_for() -> None:
    there = changing()
    switch(there)
    assert silent(there).phase() == "switching"


@pytest.mark.parametrize(("port", "phase"), [(OLD, "done"), (NEW, "switching")], ids=["the same port", "another port"])
def test_a_silent_member_knows_the_published_slots_of_its_own_server_by_their_container_port(port: int, phase: str) -> None:
    there = changing(publish=True, servers=AB, to=port)
    switch(there, AB)
    assert silent(there, "b").phase() == phase


def test_a_silent_member_that_knows_both_published_ports_of_other_servers_is_not_waited_for() -> None:
    there = changing(publish=True, servers=("a",), members=AB)
    switch(there, AB)
    there.story.obey(only=("a",))
    rollout = there.story.state().rollout
    assert rollout is not None
    there.story.elapsed = {facts.staging("shop/prod/web", rollout): there.story.want.ack_timeout}
    there.story.decide()
    assert there.story.phase() == "done"


def test_old_workers_of_the_own_server_alone_know_only_the_old_port_of_a_published_slot() -> None:
    there = changing(publish=True, servers=AB)
    switch(there, AB)
    told = there.story
    told.obey()
    generation = told.cluster.generation  # type: ignore[union-attr]
    for name in ("a", "b"):
        told.reports[name] = told.reports[name].model_copy(update={"retired": generation - 1})
    told.decide()
    rollout = told.state().rollout
    assert rollout is not None and rollout.reason == "waiting for old nginx workers of a, b, which know only the old port"
    told.reports["a"] = told.reports["a"].model_copy(update={"retired": generation})
    told.decide()
    rollout = told.state().rollout
    assert rollout is not None and rollout.reason == "waiting for old nginx workers of b, which know only the old port"


def test_old_workers_that_know_only_the_old_port_are_waited_for() -> None:
    there = changing()
    switch(there)
    told = there.story
    told.obey()
    generation = told.cluster.generation  # type: ignore[union-attr]
    told.reports["a"] = told.reports["a"].model_copy(update={"retired": generation - 1})
    told.decide()
    rollout = told.state().rollout
    assert rollout is not None and rollout.reason == "waiting for old nginx workers of a, which know only the old port"
    told.obey()
    told.decide()
    assert told.phase() == "draining"


@pytest.mark.parametrize(
    ("at", "listed", "other", "behind"),
    [
        ("a", (None, 80), (None, 80), True),
        ("a", (None, 80), (None, 8080), False),
        ("a", (None, None), (None, 8080), True),
        ("a", (None, 80), (18100, 80), True),
        ("b", (8100, 80), (18100, 80), True),
        ("b", (8100, 80), (18100, 8080), True),
        ("b", (8100, 80), (18101, 80), False),
        ("b", (8100, 80), (None, 80), False),
        ("a", (8100, 80), (18100, 80), True),
        ("a", (8100, 80), (18100, 8080), False),
        ("a", (8100, None), (18100, 8080), False),
        ("a", (8100, 80), (18101, 80), False),
        ("a", (8100, 80), (None, 80), False),
    ],
)
def test_what_a_configuration_finds_in_the_other_slot_of_a_place_on_a(
    at: str, listed: tuple[int | None, int | None], other: tuple[int | None, int | None], behind: bool
) -> None:
    def backend(slot: Slot, role: Role, ports: tuple[int | None, int | None]) -> Backend:
        return Backend(server="a", slot=slot, port=ports[0], container_port=ports[1], spec="x", role=role)

    assert stands_behind(backend("primary", "draining", listed), backend("secondary", "live", other), at) is behind
