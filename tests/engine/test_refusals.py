"""What became of a switch, by service: who is blamed, what stayed loaded, and for how long that is remembered."""

from __future__ import annotations

from reconciler.engine.refusals import Refusals
from reconciler.model.observed import NginxState
from reconciler.model.routes import Listener, NginxConfig, Peer, Upstream
from reconciler.model.switched import Switched
from reconciler.plan.refusals import upstream_part
from reconciler.render.nginx import render


def config(*peers: str) -> NginxConfig:
    """A sidecar's, with one upstream for each peer, listened to from port 5310 on."""
    upstreams = tuple(Upstream(name=f"shop_prod_{n}", peers=(Peer(address=peer),)) for n, peer in enumerate(peers))
    listeners = tuple(Listener(port=5310 + n, upstream=upstream.name) for n, upstream in enumerate(upstreams))
    return NginxConfig(kind="sidecar", name="box", generation_port=4999, upstreams=upstreams, listeners=listeners)


LOADED = config("10.0.0.1:80", "10.0.0.2:80")
WANTED = config("10.0.0.1:80", "gone:80")
PIDS = {"box": 7}


class Ground:
    """An nginx whose file holds `LOADED`."""

    def __init__(self) -> None:
        self.file = render(LOADED).text
        self.refusals = Refusals(render, lambda name: self.file)

    def switch(self, tried: NginxConfig, error: str | None) -> None:
        """What an adapter tells; no error when it was loaded."""
        loaded = render(tried if error is None else LOADED).fingerprint
        state = NginxState(name="box", loaded=loaded, refused=render(tried).fingerprint if error else None, error=error)
        self.refusals.learn([Switched("box", error is None, None, state)], {"box": tried}, PIDS)


def complaint(tried: NginxConfig, host: str) -> str:
    line = next(n for n, row in enumerate(render(tried).text.splitlines(), 1) if f"server {host}:" in row)
    return f'[emerg] 1#1: host not found in upstream "{host}:80" in /etc/reconciler-nginx/nginx.conf.candidate:{line}'


def test_the_service_to_blame_is_remembered_with_what_stayed_loaded_for_it() -> None:
    ground = Ground()
    ground.switch(WANTED, complaint(WANTED, "gone"))
    (refusal,) = ground.refusals.of("box", 7)
    assert (refusal.upstream, refusal.kind, refusal.tries) == ("shop_prod_1", "upstream", 1)
    assert refusal.part == upstream_part(WANTED.upstreams[1].peers)
    assert [peer.address for peer in refusal.kept] == ["10.0.0.2:80"]


def test_tries_are_counted_and_what_was_loaded_first_is_kept() -> None:
    ground = Ground()
    ground.switch(WANTED, complaint(WANTED, "gone"))
    ground.file = render(config("10.0.0.1:80", "10.0.0.9:80")).text
    for _ in range(2):
        ground.switch(WANTED, complaint(WANTED, "gone"))
    (refusal,) = ground.refusals.of("box", 7)
    assert (refusal.tries, [peer.address for peer in refusal.kept]) == (1, ["10.0.0.2:80"])


def test_what_was_loaded_after_all_is_forgotten() -> None:
    ground = Ground()
    ground.switch(WANTED, complaint(WANTED, "gone"))
    ground.switch(LOADED, None)
    assert len(ground.refusals.of("box", 7)) == 1
    ground.switch(WANTED, None)
    assert ground.refusals.of("box", 7) == ()


def test_another_process_has_refused_nothing() -> None:
    ground = Ground()
    ground.switch(WANTED, complaint(WANTED, "gone"))
    assert ground.refusals.of("box", 8) == ()
    ground.refusals.keep({})
    assert ground.refusals.of("box", 7) == ()


def test_a_port_in_use_is_the_listeners() -> None:
    ground = Ground()
    ground.switch(WANTED, "[emerg] 1#1: bind() to 127.0.0.1:5311 failed (98: Address in use)")
    (refusal,) = ground.refusals.of("box", 7)
    assert (refusal.upstream, refusal.kind, refusal.part) == ("shop_prod_1", "listener", "5311")
    ground.switch(LOADED.model_copy(update={"listeners": LOADED.listeners[:1]}), None)
    assert len(ground.refusals.of("box", 7)) == 1


def test_nobody_is_blamed_when_what_is_loaded_cannot_be_told() -> None:
    """Then nothing could be put in the service's place, and the whole text is held back as it was."""
    ground = Ground()
    ground.file = render(config("10.0.0.7:80")).text
    ground.switch(WANTED, complaint(WANTED, "gone"))
    assert ground.refusals.of("box", 7) == ()
