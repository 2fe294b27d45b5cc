"""Images and networks of the Docker adapter against a real Engine: FAULTS 11, 19."""

from __future__ import annotations

import time
from collections.abc import Iterator

import docker
import docker.errors
import pytest

from reconciler.effects.docker import Docker
from reconciler.errors import Stalled, Transient
from reconciler.model.desired import Mount
from tests.integration import docker_rig
from tests.integration.conftest import Scope
from tests.integration.docker_rig import Rig, free_subnet
from tests.integration.images import Images

pytestmark = pytest.mark.docker


@pytest.fixture
def rig(scope: Scope, docker_client: docker.DockerClient, images: Images) -> Iterator[Rig]:
    made = docker_rig.rig(scope, docker_client, images)
    yield made
    made.docker.close()


@pytest.fixture
def tag(scope: Scope, docker_client: docker.DockerClient) -> Iterator[str]:
    """A name for an image to build, removed at the end."""
    name = f"reconciler/build:{scope.name}"
    yield name
    scope.remove_everything()  # containers of the image first
    for image in docker_client.images.list(filters={"reference": name}):
        docker_client.images.remove(image.id or "", force=True)


def context(images: Images, *more: str) -> dict[str, tuple[int, bytes]]:
    lines = [f"FROM {images.python}", "COPY sub /sub", "EXPOSE 8080 9/udp", *more]
    return {
        "deploy/Dockerfile.api": (0o100644, "\n".join(lines).encode()),
        "sub/run": (0o100755, b"#!/bin/sh\necho ran\n"),
        "sub/link": (0o120000, b"run"),
        "sub/data": (0o100644, b"x" * 100_000),
    }


def test_an_image_tells_what_its_containers_need(rig: Rig) -> None:
    image = rig.docker.image(rig.images.postgres)
    assert image is not None and image.id.startswith("sha256:")
    assert (image.volumes, image.exposed) == (("/var/lib/postgresql/data",), (5432,))
    assert "@sha256:" in image.reference or image.reference == image.id
    assert rig.docker.image("reconciler-test/none:1") is None


def test_a_build_carries_modes_links_and_its_log(rig: Rig, tag: str) -> None:
    log = rig.docker.build(tag, context(rig.images, f"RUN /sub/link && echo built {tag}"), "deploy/Dockerfile.api")
    assert {"ran", f"built {tag}"} <= set(log)
    image = rig.docker.image(tag)
    assert image is not None and image.exposed == (8080,)
    rig.up(rig.plan(image=tag, command=("sleep", "600"), init=True))
    code, listing = rig.docker.exec(rig.instance.name, ("sh", "-c", "stat -c %a /sub/run /sub/data; readlink /sub/link"), 5)
    assert (code, listing.split()) == (0, ["755", "644", "run"])


def test_the_same_context_gives_the_same_image(rig: Rig, tag: str) -> None:
    rig.docker.build(tag, context(rig.images), "deploy/Dockerfile.api")
    first = rig.docker.image(tag)
    rig.docker.build(tag, dict(reversed(context(rig.images).items())), "deploy/Dockerfile.api")
    assert rig.docker.image(tag) == first


def test_a_failed_build_stalls_with_the_last_lines_of_its_output(rig: Rig, tag: str) -> None:
    with pytest.raises(Stalled, match=r"(?s)build of .* failed: .*non-zero code: 3.*the reason is here") as caught:
        rig.docker.build(tag, context(rig.images, "RUN echo the reason is here; exit 3"), "deploy/Dockerfile.api")
    assert caught.value.reason == "BuildFailed"
    assert rig.docker.image(tag) is None


def test_a_dockerfile_that_is_not_there_or_not_one_stalls(rig: Rig, tag: str) -> None:
    for broken, name in ((context(rig.images), "Dockerfile.other"), (context(rig.images, "NONSENSE x"), "deploy/Dockerfile.api")):
        with pytest.raises(Stalled, match="build of"):
            rig.docker.build(tag, broken, name)


def test_a_build_that_hangs_ends_in_its_time(rig: Rig, tag: str) -> None:
    """FAULTS 10."""
    began = time.monotonic()
    with pytest.raises(Transient, match="did not build"):
        rig.docker.build(tag, context(rig.images, "RUN sleep 60"), "deploy/Dockerfile.api", seconds=2.0)
    assert time.monotonic() - began < 50, "what it was to run takes sixty seconds"


def test_a_pull_that_fails_is_transient_and_names_the_image(rig: Rig) -> None:
    """FAULTS 11: no registry answers on this port."""
    with pytest.raises(Transient, match=r"image 127\.0\.0\.1:1/nothing:1 cannot be fetched, its registry is not reachable"):
        rig.docker.pull("127.0.0.1:1/nothing:1")


def test_only_built_images_that_nothing_needs_are_removed(rig: Rig, tag: str, docker_client: docker.DockerClient) -> None:
    """FAULTS 19: not what is kept, not what a container uses, not what somebody else made."""
    foreign = docker_client.images.get(rig.images.python)
    foreign.tag(f"reconciler/build:{rig.scope.name}-foreign")
    rig.docker.build(tag, context(rig.images, f"LABEL test={rig.scope.name}"), "deploy/Dockerfile.api")
    image = rig.docker.image(tag)
    assert image is not None
    rig.docker.remove_unused_images(frozenset({tag}))
    assert rig.docker.image(tag) == image
    container = rig.docker.create(rig.plan(image=tag, command=("true",)))
    assert rig.docker.remove_unused_images(frozenset()) == ()
    assert rig.docker.image(tag) == image
    rig.docker.remove(container)
    assert Docker(docker_rig.SOCKET, "another").remove_unused_images(frozenset()) == ()
    assert rig.docker.remove_unused_images(frozenset()) == (image.id,)
    assert rig.docker.image(tag) is None
    docker_client.images.remove(f"reconciler/build:{rig.scope.name}-foreign")
    assert rig.docker.image(rig.images.python) is not None


def test_a_missing_image_is_no_reason_to_touch_what_runs(rig: Rig) -> None:
    """FAULTS 11: create is refused before anything else happens."""
    running = rig.up()
    with pytest.raises(Transient, match="reconciler-test/none:1, which is not here"):
        rig.docker.create(rig.plan(image="reconciler-test/none:1", labels=rig.labels(spec="sha256:2")))
    assert rig.seen().running and rig.seen().id == running.id


def test_a_network_is_made_once_with_its_subnet_and_gateway(rig: Rig) -> None:
    rig.docker.create_network(rig.network, str(rig.subnet))
    assert rig.docker.own_networks() == {rig.network: str(rig.subnet)}
    assert rig.docker.networks()[rig.network] == str(rig.subnet) and "bridge" in rig.docker.networks()
    pools = rig.client.networks.get(rig.network).attrs["IPAM"]["Config"]
    assert pools[0]["Gateway"] == rig.address(1)
    assert len(rig.client.networks.list(names=[rig.network])) == 1


def test_a_container_that_joins_by_itself_does_not_get_a_slots_address(rig: Rig) -> None:
    foreign = rig.scope.run(rig.images.app, "foreign", network=rig.network)
    foreign.reload()
    address = foreign.attrs["NetworkSettings"]["Networks"][rig.network]["IPAddress"]
    assert int(address.rsplit(".", 1)[1]) >= 192


def test_a_subnet_in_use_is_transient_and_named(rig: Rig) -> None:
    with pytest.raises(Transient, match=f"subnet {rig.subnet} of network {rig.scope.name}_b overlaps"):
        rig.docker.create_network(f"{rig.scope.name}_b", str(rig.subnet))


def test_a_foreign_network_is_neither_taken_nor_removed(rig: Rig) -> None:
    """I9."""
    foreign = rig.free_network("foreign")
    with pytest.raises(Stalled, match="is not the one wanted"):
        rig.docker.create_network(foreign.name or "", str(free_subnet(rig.docker)))
    with pytest.raises(Stalled, match="never removed"):
        rig.docker.remove_network(foreign.name or "")
    foreign.reload()


def test_a_network_in_use_stays_and_an_empty_one_goes(rig: Rig) -> None:
    container = rig.up()
    with pytest.raises(Transient, match=f"remove network {rig.network}"):
        rig.docker.remove_network(rig.network)
    rig.docker.stop(container.id)
    rig.docker.remove(container.id)
    rig.docker.remove_network(rig.network)
    rig.docker.remove_network(rig.network)
    assert rig.docker.own_networks() == {}


def test_networks_are_not_asked_for_again_while_the_events_are_watched(rig: Rig) -> None:
    stream = rig.docker.events()
    assert next(stream).kind == "connected"
    rig.docker.networks()
    before = rig.docker.calls.copy()
    rig.docker.networks()
    rig.docker.own_networks()
    assert rig.docker.calls == before
    made = rig.free_network("later")
    while (event := next(stream)).kind != "network" or event.name == rig.network:
        rig.docker.networks()
        if made.name in rig.docker.networks():
            break
    assert made.name in rig.docker.networks()


def test_two_servers_on_one_daemon_do_not_see_each_other(rig: Rig) -> None:
    rig.up(rig.plan(mounts=(Mount(kind="tmpfs", source="", target="/scratch"),)))
    other = Docker(docker_rig.SOCKET, f"{rig.scope.server}-b")
    containers, foreign = other.containers()
    assert containers == () and rig.instance.name in foreign
    assert rig.network not in other.own_networks()
