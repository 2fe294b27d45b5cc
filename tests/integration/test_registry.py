"""Images from a real registry: which bytes a tag means, an outage, and names and passwords (FAULTS 11)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import docker.errors
import pytest

from tests.integration.program import Program
from tests.integration.registry_rig import PASSWORD, USER, Registry
from tests.integration.server import Server, one_server  # noqa: F401 - the fixture `server`
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PUBLIC = {"hosts": ["shop.example"]}


@pytest.fixture
def registry(server: Server, free_port: Callable[[], int], tmp_path: Path) -> Iterator[Registry]:
    """A registry that answers, with nothing in it; the images that were fetched from it are removed at the end."""
    made = Registry(server.scope.client, tmp_path, free_port())
    made.start()
    yield made
    made.stop()
    forget(server, made)


@pytest.fixture
def other(server: Server) -> Iterator[str]:
    """The test application in other bytes."""
    tag = f"reconciler-test/{server.name}:other"
    context = server.directory / "other"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {server.images.app}\nLABEL other=yes\n")
    server.scope.client.images.build(path=str(context), tag=tag, rm=True)
    yield tag
    server.scope.client.images.remove(tag, force=True)


def test_what_a_tag_means_is_found_out_by_each_rollout_and_by_nothing_else(server: Server, registry: Registry, other: str) -> None:
    """A tag that moves redeploys nothing; healing runs the same bytes; the next commit takes the new ones."""
    first = registry.put(server.images.app, "app", "1")
    image = f"{registry.host}/app:1"
    server.deploy({"web": server.app("1", public=PUBLIC, image=image)}, "first")
    assert live_image(server) == f"{registry.host}/app@{first}"
    before = server.ids()

    second = registry.put(other, "app", "1")
    assert second != first
    assert not server.settle().outcome.busy and server.ids() == before

    server.container("web").remove(force=True)
    server.container("web_sidecar").remove(force=True)
    forget(server, registry)
    server.run_until(lambda: server.get().json["version"] == "1", 40, "the instance to be back")
    server.settle()
    assert labels(server, "web").get("other") is None, "healed with the bytes that were live, not with the tag's new ones"

    server.deploy({"web": server.app("2", public=PUBLIC, image=image)}, "second")
    assert live_image(server) == f"{registry.host}/app@{second}"
    assert labels(server, "web_secondary").get("other") == "yes"


def test_while_the_registry_is_away_what_runs_stays_and_the_update_follows_when_it_is_back(
    server: Server, registry: Registry
) -> None:
    registry.put(server.images.app, "app", "1")
    registry.put(server.images.app, "app", "2")
    server.deploy({"web": server.app("1", public=PUBLIC, image=f"{registry.host}/app:1")}, "first")
    before = server.ids()
    registry.stop()
    server.commit({"web": server.app("2", public=PUBLIC, image=f"{registry.host}/app:2")}, "second")
    server.run_until(lambda: "registry is not reachable" in server.conditions(), 40, "a status that says so")
    assert server.ids() == before and server.get().json["version"] == "1"
    registry.start()
    server.run_until(lambda: server.get().json["version"] == "2", 60, "the update")
    server.settle()


def test_a_locked_registry_says_what_to_do_and_opens_to_docker_login(
    server: Server, free_port: Callable[[], int], tmp_path: Path
) -> None:
    locked = Registry(server.scope.client, tmp_path, free_port(), locked=True)
    locked.start()
    try:
        digest = locked.put(server.images.app, "app", "1")
        server.settings.local_dir.mkdir(exist_ok=True)
        keys = tmp_path / "docker"
        keys.mkdir()
        with Program(server, "run", env={"DOCKER_CONFIG": str(keys)}) as program:
            server.commit({"web": server.app("1", public=PUBLIC, image=f"{locked.host}/app:1")}, "first")
            program.says("docker login", 60)
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            (keys / "config.json").write_text(json.dumps({"auths": {locked.host: {"auth": token}}}))
            eventually(lambda: server.get().json["version"] == "1", 90, lambda: program.said)
            eventually(lambda: live_image(server) == f"{locked.host}/app@{digest}", 30, lambda: program.said)
            assert program.end() == 0
            assert PASSWORD not in program.said and token not in program.said
    finally:
        locked.stop()
        forget(server, locked)


def live_image(server: Server) -> str | None:
    """The image that the decision records as live."""
    live = server.cluster().services[str(server.key("web"))].live
    return live.image if live is not None else None


def labels(server: Server, name: str) -> dict[str, str]:
    """The labels of the image that a container runs."""
    found = server.scope.client.images.get(server.container(name).attrs["Image"]).labels
    return dict(found)


def forget(server: Server, registry: Registry) -> None:
    """What was fetched from the registry is no longer here, as after a clean-up of images."""
    client = server.scope.client
    for image in client.images.list():
        for name in (*image.tags, *image.attrs.get("RepoDigests", ())):
            if name.startswith(registry.host + "/"):
                with suppress(docker.errors.ImageNotFound):  # the last tag takes the digest with it
                    client.images.remove(name, force=True)
