"""Servers come and go by commits to cluster.yaml: nothing is lost, a stateful service stays where it is."""

from __future__ import annotations

import pytest

from tests.cluster.bed import Bed

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]


def database(bed: Bed) -> dict[str, object]:
    """A service with data of its own."""
    return bed.app("1", volumes={"data": "/data"}, needs={})


def test_from_one_server_to_three_and_back_without_a_loss_or_a_restarted_database(bed: Bed) -> None:
    def services(count: int) -> dict[str, dict[str, object]]:
        return {"web": bed.web("1", servers_count=count), "db": database(bed)}

    bed.run("a")
    first = bed.commit(services(1), "First", bed.inventory("a"))
    bed.settle(first, "a")
    a, b, c = (bed.server(name) for name in "abc")
    a.shell("shop_prod_db", "sh", "-c", "echo kept > /data/file")
    db = a.ids("shop_prod_db")
    with bed.load("a", mesh="db") as traffic:
        bed.run("b")
        second = bed.commit(services(2), "A second server", bed.inventory("a", "b"))
        print(f"\nfrom one server to two: {bed.settle(second, 'a', 'b'):.1f} s")
        assert a.ids("shop_prod_db") == db, "the database was touched"
        assert set(bed.live("web")) == {"a", "b"}
        bed.eventually(lambda: b.version() == "1", 10, "b's edge to serve")
        assert b.get(f"/fetch?url=http://localhost:{bed.port('db')}/")[1]["status"] == 200

        bed.run("c")
        third = bed.commit(services(3), "A third server", bed.inventory("a", "b", "c"))
        print(f"from two servers to three: {bed.settle(third, 'a', 'b', 'c'):.1f} s")
        assert a.ids("shop_prod_db") == db
        assert set(bed.live("web")) == {"a", "b", "c"}
        bed.eventually(lambda: c.version() == "1", 10, "c's edge to serve")
        for member in (a, b, c):
            addresses = set().union(*(v for n, v in member.published().items() if n != "nginx"))
            assert addresses == {member.address}, f"{member.name}: {member.published()}"
            assert not any(address in ("0.0.0.0", "::", "") for found in member.published().values() for address in found)

        with bed.load("b") as others:
            fourth = bed.commit(services(2), "c is drained", bed.inventory("a", "b", "c", drained="c"))
            print(f"c drained: {bed.settle(fourth):.1f} s")
            assert set(bed.live("web")) == {"a", "b"}
            bed.eventually(lambda: not c.ids("shop_prod_web"), 30, "c's instances to be gone")
            assert c.version() == "1", "a drained server keeps its edge"
            fifth = bed.commit(services(2), "c is out", bed.inventory("a", "b"))
            print(f"c removed: {bed.settle(fifth, 'a', 'b'):.1f} s")
            bed.nothing_lost(others.stop())
        assert a.ids("shop_prod_db") == db
        assert a.shell("shop_prod_db", "cat", "/data/file").strip() == "kept"
        bed.nothing_lost(traffic.stop())


def test_a_drained_server_gives_its_service_away_before_it_lets_go(bed: Bed) -> None:
    bed.run("a", "b")
    one = {"web": bed.web("1", servers_count=1)}
    bed.deploy(one, "First", bed.inventory("a", "b"), "a", "b")
    (home,) = bed.live("web")
    other = "b" if home == "a" else "a"
    with bed.load("a", "b") as traffic:
        moved = bed.commit(one, f"Drain {home}", bed.inventory("a", "b", drained=home))
        print(f"\nmoved by draining: {bed.settle(moved, 'a', 'b'):.1f} s")
        assert set(bed.live("web")) == {other}
        bed.eventually(lambda: not bed.server(home).ids("shop_prod_web"), 30, "the old instance to be gone")
        bed.nothing_lost(traffic.stop())
