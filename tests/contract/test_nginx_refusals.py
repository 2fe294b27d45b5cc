"""What a real nginx refuses holds back one service: from its own line to the rest that is loaded (DESIGN section 4, rule 3)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.engine.refusals import Refusals
from reconciler.model.observed import Elapsed, NginxState, Observed
from reconciler.model.routes import NginxConfig
from reconciler.model.switched import Switched
from reconciler.plan.masks import mask
from reconciler.plan.refusals import Settled, settle
from reconciler.render.nginx import render
from tests.contract.nginx_beds import NAME, RealBed
from tests.contract.test_nginx_contract import Way, edge, mesh

pytestmark = pytest.mark.slow


@dataclass
class Server:
    """What the engine does with one nginx, pass by pass. `pairs`: addresses of the slots, by `service#replica`."""

    bed: RealBed
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refusals = Refusals(render, self.bed.read)

    def reload(self, config: NginxConfig) -> tuple[Settled, Switched]:
        """One pass."""
        state: NginxState = self.bed.state().model_copy(update={"refusals": self.refusals.of(NAME, 1)})
        settled = settle(config, state, Observed(server="a", pairs=self.pairs), Elapsed())
        done = self.bed.switch(render(settled.config))
        self.refusals.learn([done], {NAME: settled.config}, {NAME: 1})
        return settled, done


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    bed = RealBed(tmp_path / "real")
    yield Server(bed)
    bed.stop()


def test_a_name_that_does_not_resolve_is_loaded_by_its_address_in_the_next_pass(server: Server) -> None:
    bed = server.bed
    old, new, api = (bed.backend(name) for name in ("old", "new", "api"))
    port = new.rpartition(":")[2]
    bed.start(edge(bed, Way("web", peers=(old,)), Way("api", "/api", peers=(api,))))
    moved = bed.backend("moved")
    wanted = edge(bed, Way("web", peers=(f"shop_prod_web:{port}",)), Way("api", "/api", peers=(moved,)))
    server.pairs = {"shop/prod/web#1": ("127.0.0.1", "127.0.0.2")}
    _, refused = server.reload(wanted)
    assert not refused.loaded and "host not found" in (refused.state.error or "")
    assert bed.reached() == {"old"} and bed.reached("/api") == {"api"}
    settled, done = server.reload(wanted)
    assert done.loaded and not settled.missing
    assert bed.reached() == {"new"} and bed.reached("/api") == {"moved"}


def test_a_service_without_another_form_stays_as_it_was_and_the_others_are_loaded(server: Server) -> None:
    bed = server.bed
    old, api, moved = (bed.backend(name) for name in ("old", "api", "moved"))
    bed.start(edge(bed, Way("web", peers=(old,)), Way("api", "/api", peers=(api,))))
    wanted = edge(bed, Way("web", peers=("nobody-knows-it:80",)), Way("api", "/api", peers=(moved,)))
    assert not server.reload(wanted)[1].loaded
    settled, done = server.reload(wanted)
    assert done.loaded and settled.missing == {"shop_prod_web"}
    assert bed.reached() == {"old"} and bed.reached("/api") == {"moved"}


def test_a_service_that_is_new_is_left_out_and_the_others_are_loaded(server: Server) -> None:
    bed = server.bed
    api, moved = bed.backend("api"), bed.backend("moved")
    bed.start(edge(bed, Way("api", "/api", peers=(api,))))
    wanted = edge(bed, Way("web", peers=("nobody-knows-it:80",)), Way("api", "/api", peers=(moved,)))
    assert not server.reload(wanted)[1].loaded
    settled, done = server.reload(wanted)
    assert done.loaded and settled.missing == {"shop_prod_web"}
    assert bed.ask().status == 503 and bed.reached("/api") == {"moved"}


def test_two_names_that_do_not_resolve_take_a_pass_each(server: Server) -> None:
    bed = server.bed
    one, two, three, moved = (bed.backend(name) for name in ("one", "two", "three", "moved"))
    bed.start(edge(bed, Way("a", "/a", peers=(one,)), Way("b", "/b", peers=(two,)), Way("c", "/c", peers=(three,))))
    wanted = edge(bed, Way("a", "/a", peers=("gone-a:1",)), Way("b", "/b", peers=("gone-b:1",)), Way("c", "/c", peers=(moved,)))
    assert [server.reload(wanted)[1].loaded for _ in range(3)] == [False, False, True]
    assert (bed.reached("/a"), bed.reached("/b"), bed.reached("/c")) == ({"one"}, {"two"}, {"moved"})


def test_a_port_that_somebody_else_has_is_not_listened_on_and_the_rest_is_loaded(server: Server) -> None:
    """`nginx -t` passes; the running master refuses."""
    bed = server.bed
    old, new, other = (bed.backend(name) for name in ("old", "new", "other"))
    first, second = bed.port(), bed.port()
    bed.start(mesh(bed, {first: (old,)}))
    with socket.create_server(("127.0.0.1", second)):
        wanted = mesh(bed, {first: (new,), second: (other,)})
        _, refused = server.reload(wanted)
        assert not refused.loaded and f"127.0.0.1:{second}" in (refused.state.error or "")
        assert bed.reached(port=first) == {"old"}
        settled, done = server.reload(wanted)
        assert done.loaded and settled.silent == {(f"shop_prod_s{second}", second)} and not settled.missing
        assert bed.reached(port=first) == {"new"}


def test_a_masked_backend_is_not_asked_and_is_still_there_when_the_others_go(server: Server) -> None:
    bed = server.bed
    one, two = bed.backend("one"), bed.backend("two")
    config = edge(bed, Way("web", peers=(one, two)))
    bed.start(config)
    assert bed.reached() == {"one", "two"}
    masked = mask(config, {one}, {})
    assert server.reload(masked)[1].loaded
    assert bed.reached() == {"two"}
    bed.down("two")
    assert bed.reached() == {"one"}
