"""A rolling rollout over three real servers: one at a time, and back again when one of them fails."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest

from tests.cluster.bed import PROJECT, Bed

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
ALL = ("a", "b", "c")
ONE_BY_ONE = {"strategy": "rolling", "soak": "2s"}
FLAG = {"volumes": {"flag": {"target": "/flag", "read_only": True}}, "servers_count": 3, "rollout": ONE_BY_ONE}


def web(bed: Bed, version: str, **env: str) -> dict[str, Mapping[str, object]]:
    """The service; a file in its volume `flag` lets it fail on one server."""
    return {"web": bed.web(version, env=env, **FLAG)}


def lines(bed: Bed) -> list[dict[str, str]]:
    """Which version is live on each server, decision by decision, the oldest first; what is the same twice is told once."""
    found: list[dict[str, str]] = []
    for commit in reversed(bed.remote.log("status/cluster")):
        state = bed.cluster(commit.sha).services.get(f"{PROJECT}/prod/web")
        live = {b.server: b.spec for b in state.backends if b.role == "live"} if state is not None else {}
        if len(live) == len(ALL) and (not found or found[-1] != live):
            found.append(live)
    return found


def test_a_line_goes_from_server_to_server_and_a_failing_one_stops_it_and_takes_back_what_was_switched(bed: Bed) -> None:
    bed.begin(web(bed, "1"), bed.inventory(*ALL))
    with bed.load(*ALL) as traffic:
        second = bed.commit(web(bed, "2"), "Bump web to 2")
        print(f"\nthree servers, one by one: {bed.settle(second, *ALL, seconds=150):.1f} s")
        steps = lines(bed)
        assert [len(set(live.values())) for live in steps] == [1, 2, 2, 1], steps
        changed = [{s for s in ALL if before[s] != after[s]} for before, after in pairwise(steps)]
        assert changed == [{"a"}, {"b"}, {"c"}]

        bed.server("b").engine.client.containers.run(
            bed.images.app, ["touch", "/flag/bad"], entrypoint=[], remove=True, volumes={"shop_prod_flag": {"bind": "/flag"}}
        )
        before = bed.running("web", *ALL)
        bad = bed.commit(web(bed, "3", DIE_IF_EXISTS="/flag/bad"), "Bump web to 3")
        bed.eventually(lambda: bed.rollout("web").startswith("aborted: b: "), 150, "the line to be stopped by b")
        bed.eventually(lambda: bed.running("web", *ALL) == before, 60, "what was staged and switched to be gone")
        state = bed.cluster().services["shop/prod/web"]
        assert state.rejected is not None and state.rejected.revision == bad
        assert set(lines(bed)[-1].values()) == set(steps[-1].values())
        bed.eventually(lambda: {bed.server(name).version() for name in ALL} == {"2"}, 20, "every edge to be back")
        seen = traffic.stop()
    bed.nothing_lost(seen)
    assert "3" in seen.versions("a"), "a was never switched, so nothing was taken back"
    assert set(seen.versions("c")) <= {"1", "2", "3"}
