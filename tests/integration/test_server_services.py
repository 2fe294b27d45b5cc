"""Kinds of services on one server: health gates, applications that do not listen to signals, stateful ones, builds, secrets."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.server import FAILING, Server, one_server  # noqa: F401 - the fixture `server`

pytestmark = pytest.mark.docker

PUBLIC = {"hosts": ["shop.example"]}
DOCKERFILE = "FROM {base}\n{lines}\n"


def with_dockerfile(server: Server, name: str, lines: str) -> None:
    path = f"projects/{server.project}/{name}"
    server.remote.commit({path: DOCKERFILE.format(base=server.images.app, lines=lines)}, f"{name}")


def test_every_kind_of_health_gate_passes_and_fails(server: Server) -> None:
    timing = {"interval": "200ms", "timeout": "5s", "retries": 75}
    check = ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/up', timeout=1)"]
    with_dockerfile(server, "Dockerfile.checked", f'HEALTHCHECK --interval=1s --retries=2 CMD {" ".join(check[:2])} "{check[2]}"')
    built = {key: value for key, value in server.app("1").items() if key != "image"}
    good = {
        "a-http": server.app("1", needs={}, health={"http": "/up", **timing}),
        "a-tcp": server.app("1", needs={}, health={"tcp": True, **timing}),
        "a-command": server.app("1", needs={}, health={"command": check, **timing}),
        "a-docker": {**built, "needs": {}, "dockerfile": "Dockerfile.checked", "health": {"docker": True, **timing}},
    }
    server.deploy(good, "good")
    before = server.ids()
    assert set(before) >= set(good)

    harm = {
        "a-http": {"FAIL_HEALTH": "1"},
        "a-tcp": {"NO_LISTEN": "1"},
        "a-command": {"FAIL_HEALTH": "1"},
        "a-docker": {"FAIL_HEALTH": "1"},
    }
    soon = {"start_period": "3s", "retries": 5}
    server.deploy(
        {
            name: {**service, "env": {"VERSION": "2", **harm[name]}, "health": {**service["health"], **soon}}
            for name, service in good.items()
        },
        "bad",
    )
    assert server.ids() == before
    reasons = {name: server.cluster().services[str(server.key(name))].rejected for name in good}
    assert all(reasons.values()), reasons


def test_an_application_that_ignores_its_stop_signal_is_named_in_the_status(server: Server) -> None:
    """FAULTS 16."""
    deaf = {"IGNORE_TERM": "1"}
    server.deploy({"web": server.app("1", env=deaf, drain={"timeout": "5s", "grace": "1s"})}, "one")
    server.deploy({"web": server.app("2", env=deaf, drain={"timeout": "5s", "grace": "1s"})}, "two")
    assert server.slot("web") == "secondary" and "web" not in server.ids()
    assert "137" in server.conditions() and "init: true" in server.conditions()


def stateful(server: Server, version: str, **given: object) -> dict[str, object]:
    return server.app(version, needs={}, volumes={"data": "/data"}, public=PUBLIC, **given)


def write(server: Server, name: str, text: str) -> None:
    code, output = server.container(name).exec_run(["python3", "-c", f"open('/data/kept', 'w').write({text!r})"])
    assert code == 0, output


def read(server: Server, name: str) -> str:
    return bytes(server.container(name).exec_run(["cat", "/data/kept"]).output).decode()  # type: ignore[arg-type]


@contextmanager
def most_at_once(server: Server, service: str) -> Iterator[list[int]]:
    """How many containers of the service ran at the most, by Docker's own events."""
    key = str(server.key(service))
    found, running, most = (
        threading.Event(),
        {c.id for c in server.ours().values() if c.labels.get("reconciler.service") == key},
        [0],
    )
    most[0] = len(running)
    client = server.scope.client
    events = client.events(decode=True, filters={"type": "container", "label": f"reconciler.server={server.name}"})

    def follow() -> None:
        for event in events:
            if event["Action"] == "start" and event["Actor"]["Attributes"].get("reconciler.service") == key:
                running.add(event["id"])
                most[0] = max(most[0], len(running))
            if event["Action"] == "die":
                running.discard(event["id"])
        found.set()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    yield most
    events.close()
    assert found.wait(30)


def test_a_stateful_service_is_recreated_and_keeps_its_data(server: Server) -> None:
    """Never two containers on its volume; a failed update stalls, as the data may have been changed; a commit mends it."""
    server.deploy({"db": stateful(server, "1")}, "one")
    write(server, "db", "precious")
    assert set(_mounted(server, "db")) == {f"{server.project}_prod_data"}
    with most_at_once(server, "db") as most:
        server.deploy({"db": stateful(server, "2")}, "two")
        assert server.slot("db") == "primary" and server.get().json["version"] == "2"
        assert read(server, "db") == "precious"

        server.commit({"db": stateful(server, "3", env={"FAIL_HEALTH": "1"}, health=FAILING)}, "bad")
        server.run_until(lambda: "Stalled" in server.conditions(), 90, "the status to say that it is stalled")
        assert "rollback" in server.conditions()

        server.commit({"db": stateful(server, "4")}, "mended")
        server.run_until(lambda: server.get().json["version"] == "4", 120, "the mended version to be live")
        server.settle()
        assert read(server, "db") == "precious"
    assert most == [1] and set(_mounted(server, "db")) == {f"{server.project}_prod_data"}
    assert server.slot("db") == "primary" and "db_secondary" not in server.ids()


def _mounted(server: Server, name: str) -> list[str]:
    return [mount["Name"] for mount in server.container(name).attrs["Mounts"] if mount["Type"] == "volume"]


def test_a_failed_update_of_a_stateful_service_goes_back_if_that_is_asked_for(server: Server) -> None:
    back = {"rollout": {"rollback": "image"}}
    server.deploy({"db": stateful(server, "1", **back)}, "one")
    write(server, "db", "precious")
    server.deploy({"db": stateful(server, "2", env={"FAIL_HEALTH": "1"}, health=FAILING, **back)}, "bad")
    assert server.get().json["version"] == "1", "a single run ends only when the old version is healthy again"
    assert read(server, "db") == "precious"
    rejected = server.cluster().services[str(server.key("db"))].rejected
    assert rejected is not None and "500" in rejected.reason


def test_a_missing_image_of_a_stateful_service_never_stops_the_old_one(server: Server) -> None:
    """FAULTS 11: `ready` means that the image is there."""
    server.deploy({"db": stateful(server, "1")}, "one")
    before = server.ids()
    tag = f"127.0.0.1:1/{server.name}:1"  # where no registry is, which is told at once
    server.commit({"db": {**stateful(server, "2"), "image": tag}}, "an image that is not there")
    server.run_until(lambda: tag in server.conditions(), 60, "a status that names the image")
    assert server.ids() == before and server.get().json["version"] == "1"


def test_an_image_with_a_volume_that_nobody_named_stalls_with_advice(server: Server) -> None:
    """No anonymous volumes, ever; other services go on; naming it, or `stateless`, mends it."""
    tag = f"reconciler-test/{server.name}:1"
    context = server.directory / "image"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE.format(base=server.images.app, lines="VOLUME /data"))
    client = server.scope.client
    client.images.build(path=str(context), tag=tag, rm=True)
    try:
        volumes = {volume.name for volume in client.volumes.list()}
        service = {**server.app("1", needs={}), "image": tag}
        server.commit({"store": service, "web": server.app("1", public=PUBLIC)}, "first")
        server.run_until(lambda: "/data" in server.conditions() and "stateless" in server.conditions(), 90, "advice in the status")
        server.run_until(lambda: server.get().json["version"] == "1", 90, "web to be live")
        assert "store" not in server.ids()

        server.deploy({"store": {**service, "stateless": True}, "web": server.app("1", public=PUBLIC)}, "it may go")
        assert server.slot("store") == "primary"
        changed = {**service, "stateless": True, "env": {"VERSION": "2"}}
        server.deploy({"store": changed, "web": server.app("1", public=PUBLIC)}, "two")
        assert server.slot("store") == "secondary", "stateless: it toggles"
        assert {volume.name for volume in client.volumes.list()} <= volumes | _others(server), "no anonymous volume"
    finally:
        server.scope.remove_everything()
        client.images.remove(tag, force=True)


def _others(server: Server) -> set[str]:
    """Volumes that tests beside this one make."""
    used = {
        mount.get("Name")
        for container in server.scope.client.containers.list(all=True, ignore_removed=True)
        if container.labels.get("reconciler.server") != server.name
        for mount in container.attrs["Mounts"]
    }
    return {name for name in used if name}


def test_a_change_of_the_dockerfile_builds_and_toggles_only_its_service(server: Server) -> None:
    built = {key: value for key, value in server.app("1", public=PUBLIC).items() if key != "image"}
    services = {"web": {**built, "dockerfile": "Dockerfile.web"}, "api": server.app("1")}
    with_dockerfile(server, "Dockerfile.web", "ENV BUILT=1")
    server.deploy(services, "one")
    api = server.container("api").id
    with_dockerfile(server, "Dockerfile.web", "ENV BUILT=2")
    server.settle()
    assert server.slot("web") == "secondary" and server.container("api").id == api
    assert "BUILT=2" in server.container("web_secondary").attrs["Config"]["Env"]

    with_dockerfile(server, "Dockerfile.web", "RUN exit 3")
    server.settle()
    rejected = server.cluster().services[str(server.key("web"))].rejected
    assert rejected is not None and "build" in rejected.reason
    assert server.get().status == 200 and server.slot("web") == "secondary"


def test_a_changed_secret_refreshes_the_services_that_use_it_and_no_others(server: Server) -> None:
    server.write_secret("token", "first-value")
    server.write_secret("other", "unchanged")
    services = {
        "web": server.app("1", secrets=["token"], public=PUBLIC),
        "api": server.app("1", secrets=["other"]),
        "more": server.app("1"),
    }
    server.deploy(services, "three")
    before, revision = server.ids(), server.cluster().config
    server.write_secret("token", "second-value")
    server.run_until(lambda: server.slot("web") == "secondary", 90, "web to be refreshed")
    server.settle()
    after = server.ids()
    assert {name for name in after if name not in before} == {"web_secondary", "web_secondary_sidecar"}
    assert {name: found for name, found in after.items() if not name.startswith("web")} == {
        name: found for name, found in before.items() if not name.startswith("web")
    }
    assert server.container("web_secondary").exec_run(["cat", "/run/secrets/token"]).output == b"second-value"
    assert server.cluster().config == revision
    told = "\n".join(commit.subject for commit in server.remote.log("status/cluster"))
    assert f"secrets changed on {server.name}" in told
    server.settle()
    assert server.ids() == after, "one refresh, not another one after it"


def test_a_missing_secret_is_named_and_waited_for(server: Server) -> None:
    server.commit({"web": server.app("1", secrets=["token"], public=PUBLIC), "api": server.app("1")}, "first")
    server.run_until(lambda: "token" in server.conditions(), 60, "a status that names the secret")
    server.run_until(lambda: server.get(port=server.port("api")).json["version"] == "1", 90, "api to be live")
    assert "web" not in server.ids()
    server.write_secret("token", "value")
    server.run_until(lambda: server.get().json["version"] == "1", 90, "web to be live")


def test_no_secret_reaches_the_status_the_log_or_a_process_list(server: Server) -> None:
    """FAULTS 55: canaries in an environment value, in a secret and in the settings, through several kinds of failure."""
    in_env, in_secret, in_token = "canary-env-5512", "canary-secret-8731", "canary-token-9920"
    token = server.directory / "token"
    token.write_text(in_token)
    server.settings = server.settings.model_copy(update={"token_file": token})
    server.restart()
    server.write_secret("password", in_secret)
    shout = [
        "python3",
        "-c",
        "import os, sys; print(os.environ['CANARY'], open('/run/secrets/password').read(), flush=True); sys.exit(9)",
    ]
    seen: list[str] = []
    stop = threading.Event()

    def watch_processes() -> None:
        while not stop.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = path.read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if any(canary in words for canary in (in_env, in_secret, in_token)) and path.parent.name != str(os.getpid()):
                    seen.append(words)

    thread = threading.Thread(target=watch_processes)
    thread.start()
    try:
        good = server.app("1", secrets=["password"], env={"CANARY": in_env}, public=PUBLIC)
        server.deploy({"web": good}, "good")
        server.deploy({"web": {**good, "command": shout}}, "says its secrets and dies")
        rejected = server.cluster().services[str(server.key("web"))].rejected
        assert rejected is not None and rejected.log, "its last lines are in the status, which is where they would be"
        server.deploy({"web": {**good, "command": ["/no/such", in_env]}}, "cannot start")
        server.deploy({"web": {**good, "env": {"CANARY": in_env, "CHANGED": in_env}}}, "another value")
        with pytest.raises(AssertionError, match="invalid"):
            server.deploy({"web": {**good, "env": {"CANARY": in_env, "1bad": in_env}}}, "invalid")
    finally:
        stop.set()
        thread.join()
    branches = [branch for branch in server.remote.branches() if branch.startswith("status/")]
    texts = [server.remote.git("log", "-p", "--format=%B%an%ae", f"refs/heads/{branch}") for branch in branches]
    assert len(branches) == 2 and all("web" in text for text in texts)
    told = "\n".join([*texts, *server.said, server.story()])
    for canary in (in_env, in_secret, in_token):
        assert canary not in told, [line for line in told.splitlines() if canary in line]
    assert seen == []
    for path in server.settings.state_dir.rglob("*"):
        if path.is_file() and "repo.git" not in path.parts:
            assert in_secret.encode() not in path.read_bytes(), path
