"""The verified switch against a real nginx. Each trap of NGINX.md is shown twice: with its remedy, and without it."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.effects.namespace import dial, http_get, workers
from reconciler.errors import Stalled
from reconciler.model.routes import Peer
from reconciler.render.nginx import render
from tests.integration.conftest import Scope
from tests.integration.images import Images
from tests.integration.nginx_rig import Backend, Load, Rig, Running, Wanted, edge, read_answer, request, sidecar, variant

pytestmark = pytest.mark.docker

FreePort = Callable[[], int]
Eventually = Callable[..., object]
GONE = "127.0.0.1:1"


@pytest.fixture
def rig(scope: Scope, images: Images, tmp_path: Path) -> Rig:
    return Rig(scope, tmp_path / "nginx", images.nginx)


def old_workers(running: Running) -> int:
    return running.rig.nginx.state(running.name, running.pid, running.config.generation_port).old_workers


@pytest.mark.parametrize("remedy", [True, False])
def test_posts_on_kept_alive_connections_survive_reloads(
    rig: Rig, free_port: FreePort, eventually: Eventually, remedy: bool
) -> None:
    """FAULTS 24. Without `keepalive_min_timeout` a reload cuts idle clients, and a request on the wire is lost."""
    config = edge(free_port(), free_port())
    # Answered by nginx itself: what is measured is the client's side of the reload.
    quick = ('return 503 "shop/prod/api has no live backend\\n"', 'return 200 "ok"')
    without = () if remedy else (("    keepalive_min_timeout 5s;\n", ""),)
    rendered = render(config)
    running = rig.start("nginx", config, variant(rendered, 0, quick, *without).text)
    with Load(config.http_ports[0]).running() as load:
        for number in range(1, 6 if remedy else 60):
            before = load.answered
            eventually(lambda before=before: load.answered > before + 500, 60, "some load between the reloads")
            assert running.switch(variant(rendered, number, quick, *without)).loaded
            if number >= 5 and load.lost:
                break  # which reload cuts a request that is on the wire is a matter of chance
    assert load.statuses == {200}
    assert load.answered > 2000
    assert (load.lost == 0) is remedy, f"{load.lost} of {load.answered + load.lost} lost"


def test_the_old_configuration_answers_after_a_hup_and_never_after_a_verified_reload(rig: Rig, free_port: FreePort) -> None:
    """FAULTS 27: whoever removes the old slot when the signal has been sent is too early."""
    config = edge(free_port(), free_port())
    rendered = render(config)
    running = rig.start("nginx", config)
    pid, port = running.pid, config.generation_port
    rig.nginx.write(running.name, variant(rendered, 1).text)
    os.kill(pid, signal.SIGSTOP)  # a master that is slow to hear the signal
    try:
        os.kill(pid, signal.SIGHUP)
        # A plain reload would have returned by now.
        assert {http_get(pid, port, "/", 5) for _ in range(50)} == {(200, rendered.fingerprint)}
    finally:
        os.kill(pid, signal.SIGCONT)
    for number in range(2, 7):
        new = variant(rendered, number)
        outcome = running.switch(new)
        assert outcome.loaded, outcome.state.error
        assert outcome.verified_ms is not None
        assert outcome.verified_ms < 5000
        assert {http_get(pid, port, "/", 5) for _ in range(200)} == {(200, new.fingerprint)}


def test_no_old_worker_accepts_any_more_when_a_switch_is_verified(rig: Rig, free_port: FreePort) -> None:
    """Fresh connections can all happen to reach new workers while an old one still accepts: for 100 ms after the signal."""
    config = edge(free_port(), free_port())
    rendered = render(config)
    few, many = (("worker_processes 2;", f"worker_processes {count};") for count in (1, 24))
    running = rig.start("nginx", config, variant(rendered, 0, few).text)
    for number in range(1, 4):
        before = workers(running.pid).current
        outcome = running.switch(variant(rendered, number, many if number % 2 else few))
        assert outcome.loaded, outcome.state.error
        now = workers(running.pid)
        assert now.current
        assert not now.current & before


def test_a_reload_that_passes_the_test_and_is_refused_is_caught_and_put_back(rig: Rig, free_port: FreePort) -> None:
    """FAULTS 21: `nginx -t` cannot know what the running master has; a zone with another key is refused, silently."""
    config = edge(free_port(), free_port())
    rendered = render(config)
    zone = (
        "    server_tokens off;\n",
        "    server_tokens off;\n    limit_req_zone $host zone=z:1m rate=9r/s;\n    limit_req zone=z;\n",
    )
    running = rig.start("nginx", config, variant(rendered, 1, zone).text)
    before = running.file
    other_key = ("limit_req_zone $host", "limit_req_zone $remote_addr")
    refused = variant(rendered, 2, zone, other_key)
    outcome = running.switch(refused)
    assert not outcome.loaded
    assert "[emerg]" in (outcome.state.error or "")
    assert "limit_req" in (outcome.state.error or "")
    assert running.file == before
    state = rig.nginx.state(running.name, running.pid, config.generation_port)
    assert (state.loaded, state.refused, state.error) == (f"{1:016x}", refused.fingerprint, outcome.state.error)
    assert running.switch(variant(rendered, 3, zone)).loaded
    assert rig.nginx.state(running.name, running.pid, config.generation_port).refused is None


def test_an_nginx_that_reads_another_file_than_the_one_written_is_not_taken_for_switched(rig: Rig, free_port: FreePort) -> None:
    """A bind mount of a single file pins what the file was: new workers come, with the old configuration (NGINX.md)."""
    config = edge(free_port(), free_port())
    running = rig.start("nginx", config, pinned=True)
    new = variant(render(config), 1)
    outcome = running.switch(new)
    assert not outcome.loaded
    assert f"answers {render(config).fingerprint!r}; expected {new.fingerprint!r}" in (outcome.state.error or "")
    assert running.file == render(config).text


def test_a_refused_configuration_holds_back_no_other(rig: Rig, free_port: FreePort) -> None:
    """FAULTS 20: one invalid configuration, the other nginxes still get theirs."""
    good, bad = (rig.start(suffix, edge(free_port(), free_port())) for suffix in ("good", "bad"))
    before = bad.file
    better = variant(render(good.config), 7)
    broken = variant(render(bad.config), 8, ("server_tokens off;", "server_tokens perhaps;"))
    gone = Wanted("no_such_container", broken.text, broken.fingerprint, 1), 2**22 - 1
    outcomes = {item.name: item for item in rig.nginx.switch([bad.target(broken), gone, good.target(better)])}
    assert outcomes[good.name].loaded
    assert good.loaded == better.fingerprint
    assert not outcomes[bad.name].loaded
    assert "perhaps" in (outcomes[bad.name].state.error or "")
    assert bad.file == before
    assert b"SIGHUP" not in bad.container.logs()  # what the test refuses, the running nginx is not bothered with
    assert bad.loaded == render(bad.config).fingerprint
    assert not outcomes["no_such_container"].loaded
    assert "no_such_container" in (outcomes["no_such_container"].state.error or "")


def test_an_nginx_that_is_started_again_after_a_refusal_loads_the_last_good_configuration(
    rig: Rig, free_port: FreePort, eventually: Eventually
) -> None:
    """FAULTS 23: killed and restarted, it comes back with what it had."""
    config = edge(free_port(), free_port())
    running = rig.start("nginx", config)
    broken = variant(render(config), 8, ("server_tokens off;", "server_tokens perhaps;"))
    assert not running.switch(broken).loaded
    running.container.kill()
    running.container.start()
    eventually(lambda: running.loaded == render(config).fingerprint, 10, "the last good configuration")


def test_a_worker_held_by_a_websocket_is_counted_and_its_end_is_bounded(
    rig: Rig, free_port: FreePort, eventually: Eventually
) -> None:
    """FAULTS 25: old workers pinned by long connections."""
    backend = Backend("only")
    config = edge(free_port(), free_port(), Peer(address=backend.address), shutdown=10.0)
    running = rig.start("nginx", config)
    with socket.create_connection(("127.0.0.1", config.http_ports[0]), 30) as client:
        client.sendall(b"GET /ws HTTP/1.1\r\nHost: shop.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert b" 101 " in client.recv(4096)
        outcome = running.switch(variant(render(config), 1))
        assert outcome.loaded
        eventually(lambda: old_workers(running) == 1, 8, "the end of the old worker that has no websocket")
        client.sendall(b"still here")
        assert client.recv(4096) == b"still here"
        assert old_workers(running) == 1
        eventually(lambda: not workers(running.pid).shutting_down, 30, "the end of the old worker")
        assert client.recv(4096) == b""


@pytest.mark.parametrize(("backup", "status"), [(True, 200), (False, 502)])
def test_a_slow_upload_that_spans_a_switch_needs_the_other_slot_as_backup(
    rig: Rig, free_port: FreePort, eventually: Eventually, backup: bool, status: int
) -> None:
    """An old worker buffers the body and connects when it is whole: its backend is gone by then (NGINX.md, upstreams)."""
    old, new = Backend("old"), Backend("new")
    ports = free_port(), free_port()
    fallback = (Peer(address=new.address, backup=True),) if backup else ()
    running = rig.start("nginx", edge(*ports, Peer(address=old.address), *fallback))
    with socket.create_connection(("127.0.0.1", ports[0]), 15) as client:
        client.sendall(b"POST /upload HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nContent-Length: 20\r\n\r\n0123456789")
        # The request is known to be with a worker once a later connection to each worker has been answered; the old ones stay.
        assert all(request(ports[0]).status == 200 for _ in range(20))
        after = edge(*ports, Peer(address=new.address), *((Peer(address=old.address, backup=True),) if backup else ()))
        outcome = running.switch(render(after))
        assert outcome.loaded, outcome.state.error
        eventually(lambda: old_workers(running) == 1, 9, "the end of the old worker that has no upload")
        old.remove()
        client.sendall(b"0123456789")
        answer = read_answer(client)
    assert answer.status == status
    assert [item.body for item in new.seen if item.target == "/upload"] == ([20] if backup else [])


@pytest.mark.parametrize(("backup", "status"), [(True, 200), (False, 502)])
def test_a_client_that_had_said_nothing_before_the_switch_reaches_the_slot_that_lives(
    rig: Rig, free_port: FreePort, eventually: Eventually, backup: bool, status: int
) -> None:
    """An old worker serves it by the old configuration, two seconds after or ten (NGINX.md, the switch must be verified)."""
    old, new = Backend("old"), Backend("new")
    ports = free_port(), free_port()
    before = edge(*ports, Peer(address=old.address), *((Peer(address=new.address, backup=True),) if backup else ()))
    running = rig.start("nginx", before)
    with socket.create_connection(("127.0.0.1", ports[0]), 15) as client:
        assert all(request(ports[0]).status == 200 for _ in range(20))
        assert running.switch(render(edge(*ports, Peer(address=new.address)))).loaded
        eventually(lambda: old_workers(running) == 1, 9, "the end of the old worker that has no client")
        old.remove()
        client.sendall(b"GET /late HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
        assert read_answer(client).status == status


def test_a_silent_client_holds_an_old_worker_no_longer_than_the_header_timeout(
    rig: Rig, free_port: FreePort, eventually: Eventually
) -> None:
    config = edge(free_port(), free_port())
    short = ("client_header_timeout 10s;", "client_header_timeout 8s;")
    running = rig.start("nginx", config, variant(render(config), 0, short).text)
    with socket.create_connection(("127.0.0.1", config.http_ports[0]), 15) as client:
        assert all(request(config.http_ports[0]).status == 503 for _ in range(20))
        outcome = running.switch(variant(render(config), 1, short))
        assert outcome.loaded
        assert outcome.state.old_workers >= 1
        eventually(lambda: old_workers(running) == 0, 30, "the end of the old worker")
        assert client.recv(1) == b""


@pytest.mark.parametrize(("remedy", "served_by"), [(True, "live"), (False, "backup")])
def test_one_failed_connect_does_not_send_everybody_to_the_backup(
    rig: Rig, free_port: FreePort, remedy: bool, served_by: str
) -> None:
    """With nginx's default `max_fails=1` a live peer is left out for ten seconds (NGINX.md, upstreams)."""
    port = free_port()
    backup = Backend("backup")
    config = edge(free_port(), free_port(), Peer(address=f"127.0.0.1:{port}"), Peer(address=backup.address, backup=True))
    text = render(config).text if remedy else render(config).text.replace(" max_fails=0", "")
    rig.start("nginx", config, text)
    assert request(config.http_ports[0]).body == "backup /"
    live = Backend("live", port)
    answers = {request(config.http_ports[0]).body for _ in range(20)}
    live.remove()
    assert answers == {f"{served_by} /"}


@pytest.mark.parametrize(("remedy", "status"), [(True, 200), (False, 502)])
def test_a_post_is_not_written_to_a_connection_that_the_application_is_about_to_close(
    rig: Rig, free_port: FreePort, eventually: Eventually, remedy: bool, status: int
) -> None:
    """FAULTS 28. Upstream keep-alive is on by default in newer versions, with a minute of idling (NGINX.md, upstreams)."""
    backend = Backend("only", fault="forget-idle", idle=1.2)
    config = edge(free_port(), free_port(), Peer(address=backend.address))
    text = render(config).text
    if not remedy:
        text = text.replace("        keepalive_timeout 1s;\n", "        keepalive_timeout 60s;\n")
    text = text.replace("worker_processes 2;", "worker_processes 1;")  # connections are kept per worker
    rig.start("nginx", config, text)
    assert request(config.http_ports[0], "/", "POST", body=b"first").status == 200
    eventually(lambda: time.monotonic() - backend.last > 3, 20, "the application's idle timeout, and the end of nginx's own")
    assert request(config.http_ports[0], "/", "POST", body=b"second").status == status


def test_a_post_whose_connect_fails_is_tried_elsewhere_and_one_that_was_sent_is_not(rig: Rig, free_port: FreePort) -> None:
    second = Backend("second")
    config = edge(free_port(), free_port(), Peer(address=GONE), Peer(address=second.address, backup=True))
    rig.start("refused", config)
    assert request(config.http_ports[0], "/", "POST", body=b"x").body == "second /"

    cutting = Backend("cutting", fault="reset")
    config = edge(free_port(), free_port(), Peer(address=cutting.address), Peer(address=second.address, backup=True))
    rig.start("cut", config)
    assert request(config.http_ports[0], "/pay", "POST", body=b"x").status == 502
    assert request(config.http_ports[0], "/read", "GET").body == "second /read"
    assert [item.method for item in cutting.seen] == ["POST", "GET"]
    assert [(item.method, item.target) for item in second.seen] == [("POST", "/"), ("GET", "/read")]


def test_a_sidecar_listens_in_its_own_namespace_only_and_reaches_the_slot_that_lives(
    rig: Rig, scope: Scope, images: Images, eventually: Eventually
) -> None:
    network = scope.network()
    app = scope.run(images.app, "shop_prod_api", network=network.name)
    app.reload()
    address = app.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
    eventually(lambda: closing(socket.create_connection((address, 8080), 1)), 10, "the application")
    config = sidecar(4999, 5310, Peer(address=f"{app.name}:8080"), Peer(address=f"{address}:9", backup=True))
    running = rig.start("sidecar", config, network=network.name)
    assert running.loaded == render(config).fingerprint
    assert http_get(running.pid, 5310, "/up", 10)[0] == 200
    with pytest.raises(ConnectionRefusedError):
        dial(None, "127.0.0.1", 5310, 1)
    running.container.reload()
    own = running.container.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]
    for port in (5310, 4999):
        with pytest.raises(ConnectionRefusedError):
            dial(None, own, port, 1)
    stale = sidecar(4999, 5310, Peer(address=f"{address}:9"), Peer(address=f"{address}:8080", backup=True))
    assert running.switch(render(stale)).loaded
    assert http_get(running.pid, 5310, "/up", 10)[0] == 200


def test_a_name_of_no_container_is_refused_before_anything_is_switched(rig: Rig, free_port: FreePort) -> None:
    """FAULTS 22: an upstream name that does not resolve stops a whole configuration."""
    config = edge(free_port(), free_port())
    running = rig.start("nginx", config)
    outcome = running.switch(render(edge(config.http_ports[0], config.generation_port, Peer(address="no-such-name.invalid:80"))))
    assert not outcome.loaded
    assert "host not found in upstream" in (outcome.state.error or "")
    assert running.loaded == render(config).fingerprint


def test_the_version_is_read_from_the_binary_and_an_old_one_is_named(rig: Rig, free_port: FreePort) -> None:
    """FAULTS 28."""
    running = rig.start("nginx", edge(free_port(), free_port()))
    assert rig.nginx.version(running.name) >= (1, 27, 4)
    older = "printf '#!/bin/sh\\necho nginx version: nginx/1.26.3\\n' > /usr/sbin/nginx"
    assert running.container.exec_run(["sh", "-c", older]).exit_code == 0
    with pytest.raises(Stalled, match=re.escape("1.26.3")) as stalled:
        rig.nginx.version(running.name)
    assert stalled.value.reason == "NginxTooOld"


def test_several_switches_at_once_are_verified_together(rig: Rig, free_port: FreePort) -> None:
    """FAULTS 26: one reload for all that a pass has to say, not one wait after the other."""
    several = [rig.start(f"n{number}", edge(free_port(), free_port())) for number in range(3)]
    targets = [running.target(variant(render(running.config), 5)) for running in several]
    outcomes = rig.nginx.switch(targets)
    assert [outcome.name for outcome in outcomes] == [running.name for running in several]
    assert all(outcome.loaded for outcome in outcomes)
    assert {running.loaded for running in several} == {f"{5:016x}"}
