"""Placement: the same everywhere, and a server that comes or goes moves as little as possible."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.desired import ServerEntry
from reconciler.model.identity import ServiceKey
from reconciler.plan.placement import Placement, place

KEYS = [ServiceKey("shop", "prod", f"service-{n}") for n in range(200)]
names = st.lists(st.text("abcdefgh0123456789-", min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


def servers(*names: str, zone: str = "lon1") -> list[ServerEntry]:
    return [ServerEntry(name=name, zone=zone) for name in names]


def test_a_placement_is_the_same_on_every_machine_and_in_every_version() -> None:
    """Written down once: a change of this answer moves everybody's containers."""
    assert place(ServiceKey("shop", "prod", "api"), 2, "lon1", servers("lon1-a", "lon1-b", "lon1-c", "lon1-d")) == Placement(
        ("lon1-a", "lon1-b")
    )


@given(names, st.integers(1, 14), st.randoms(use_true_random=False))
def test_the_order_of_the_inventory_does_not_matter(found: list[str], count: int, random: object) -> None:
    entries = servers(*found)
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for key in KEYS[:5]:
        placement = place(key, count, "lon1", entries)
        assert placement == place(key, count, "lon1", shuffled)
        assert len(placement.servers) == min(count, len(found))
        assert placement.missing == max(0, count - len(found))
        assert list(placement.servers) == sorted(set(placement.servers))


@given(names, st.text("xyz", min_size=1, max_size=3), st.integers(1, 4))
def test_a_new_server_takes_places_and_moves_nothing_between_the_others(found: list[str], new: str, count: int) -> None:
    for key in KEYS[:20]:
        before = set(place(key, count, "lon1", servers(*found)).servers)
        after = set(place(key, count, "lon1", servers(*found, new)).servers)
        assert after - before <= {new}
        assert len(before - after) <= 1


@given(names.filter(lambda found: len(found) > 1), st.integers(1, 4))
def test_a_server_that_goes_moves_only_what_it_had(found: list[str], count: int) -> None:
    gone, *rest = found
    drained = [ServerEntry(name=gone, zone="lon1", state="drained"), *servers(*rest)]
    for key in KEYS[:20]:
        before = set(place(key, count, "lon1", servers(*found)).servers)
        after = set(place(key, count, "lon1", servers(*rest)).servers)
        assert before - {gone} <= after
        assert before == after or gone in before
        assert place(key, count, "lon1", drained) == place(key, count, "lon1", servers(*rest))


def test_services_spread_over_the_servers() -> None:
    counts = dict.fromkeys("abcd", 0)
    for key in KEYS:
        for name in place(key, 1, None, servers("a", "b", "c", "d")).servers:
            counts[name] += 1
    assert min(counts.values()) > 25  # of 50 on average


def test_only_the_zone_counts_unless_none_is_named() -> None:
    mixed = [*servers("a"), *servers("b", zone="par1")]
    assert place(KEYS[0], 2, "par1", mixed) == Placement(("b",), 1)
    assert place(KEYS[0], 2, None, mixed) == Placement(("a", "b"))
    assert place(KEYS[0], 1, "nyc1", mixed) == Placement((), 1)
