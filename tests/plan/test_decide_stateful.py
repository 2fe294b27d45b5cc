"""decide: a service with data stays where its data is, and says so by name when the config would have it elsewhere."""

from __future__ import annotations

from reconciler.model.desired import DesiredService, ServerEntry
from tests.plan.build import Story, service, story

ABC = ("a", "b", "c")
DRAINED = "its data is on a, which is drained: stateful: only `servers:` moves it"


def data(digest: str = "x1", servers: tuple[str, ...] = ("a",), *, pinned: bool = False, **changes: object) -> DesiredService:
    """A service with data; `servers` is where the config would place it now."""
    return service(digest=digest, recreate=True, servers=servers).model_copy(update={"pinned": pinned, **changes})


def drain(told: Story, *names: str) -> Story:
    """The inventory says that these servers are drained."""
    servers = {
        name: entry.model_copy(update={"state": "drained"}) if name in names else entry for name, entry in told.want.servers.items()
    }
    told.want = told.want.model_copy(update={"servers": servers})
    return told


def moved(*, pinned: bool = False) -> Story:
    """It runs on a, which is drained now: the config would place it on b."""
    told = story(data(), servers=ABC)
    return drain(told.commit(data(servers=("a",) if pinned else ("b",), pinned=pinned), revision=2), "a").settle()


def test_a_drained_server_keeps_what_has_its_data_there_and_says_why() -> None:
    told = moved()
    assert (told.slots("live"), told.slots("staged"), told.phase()) == (["a primary x1"], [], "done")
    assert told.state().held == DRAINED
    assert told.decide().reasons == ()


def test_a_pin_to_a_drained_server_says_the_same() -> None:
    assert moved(pinned=True).state().held == DRAINED


def test_it_is_said_no_more_when_the_server_is_active_again() -> None:
    told = moved().commit(data(), revision=3)
    told.want = told.want.model_copy(
        update={"servers": {name: ServerEntry(name=name, address=f"10.0.0.{ord(name) - 96}") for name in ABC}}
    )
    reasons = told.decide().reasons
    assert told.state().held is None
    assert "shop/prod/web no longer held" in reasons


def test_a_new_version_replaces_it_in_place_on_the_drained_server() -> None:
    told = drain(moved().commit(data("x2", ("b",)), revision=3), "a").settle()
    assert (told.slots("live"), told.state().held) == (["a primary x2"], DRAINED)


def test_a_zone_without_an_active_server_holds_up_no_new_version_of_what_stays() -> None:
    told = moved()
    told.commit(data("x2", (), stalled="servers_count is 1, but the cluster has 0 active", homeless=True), revision=3)
    assert drain(told, *ABC).settle().slots("live") == ["a primary x2"]


def test_what_keeps_the_new_version_itself_from_starting_still_holds_it_up() -> None:
    told = moved()
    told.commit(data("x2", ("b",), stalled="its image declares the volume /data"), revision=3)
    assert drain(told, "a").settle().slots("live") == ["a primary x1"]
    assert told.state().held == "its image declares the volume /data"


def test_a_server_that_left_the_inventory_is_named_and_nothing_is_asked_of_it() -> None:
    told = story(data(), servers=ABC).commit(data("x2", ("b",)), revision=2)
    told.want = told.want.model_copy(update={"servers": {name: told.want.servers[name] for name in "bc"}})
    told.settle()
    assert told.slots("live") == ["a primary x1"]
    assert told.state().held == "its data is on a, which is out of the inventory: stateful: only `servers:` moves it"


def test_servers_moves_it_and_the_new_place_runs_before_the_old_one_ends() -> None:
    told = drain(moved().commit(data(servers=("c",), pinned=True), revision=3), "a")
    told.decide()
    assert (told.slots("live"), told.slots("staged")) == (["a primary x1"], ["c primary x1"])
    assert told.settle().slots("live") == ["c primary x1"]
    assert told.state().held is None


def test_a_service_without_data_that_has_too_few_servers_says_so_while_it_runs_where_it_can() -> None:
    told = story(service(servers=("a", "b")), servers=("a", "b"))
    few = "servers_count is 3, but the cluster has 2 active; lower it or add servers"
    told.commit(service(servers=("a", "b"), stalled=few), revision=2).settle()
    assert (told.state().held, told.slots("live")) == (few, ["a primary x1", "b primary x1"])
