"""What is left of containers, and what runs again, when Docker is restarted or the server loses its power."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import suppress

import docker
import docker.errors
import pytest

from reconciler.effects.docker import Docker
from reconciler.model.container import ContainerPlan
from reconciler.model.identity import ServiceKey
from tests.contract.docker_beds import FakeBed, Ground
from tests.integration import images as image_store
from tests.integration.engine_rig import Engine
from tests.integration.images import Images
from tests.waiting import eventually


class PrivateBed(Ground):
    """A real Engine of its own, without `live-restore`."""

    def __init__(self, engine: Engine, images: Images) -> None:
        self._engine = engine
        self.server = "test-1"
        self.app, self.data = images.app, images.postgres
        self.docker = Docker(engine.url, self.server)
        key = ServiceKey(self.server, "prod", "web")
        self.instance, self.network = key.instance("primary"), key.network
        self.subnet = ipaddress.IPv4Network("10.222.7.0/24")
        self.docker.create_network(self.network, str(self.subnet))

    def daemon_restarts(self) -> None:
        """`systemctl restart docker`."""
        self._engine.stop()
        self._engine.start()

    def power_cut(self) -> None:
        """And back on."""
        self._engine.cut()
        self._engine.start()

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        eventually(condition, seconds + 20, what)

    def clear(self) -> None:
        """Nothing is left for the next test."""
        client = self._engine.client
        for container in client.containers.list(all=True, ignore_removed=True):
            with suppress(docker.errors.NotFound):
                container.remove(force=True)
        self.docker.remove_network(self.network)
        client.close()


Bed = FakeBed | PrivateBed


@pytest.fixture(scope="module")
def engine(docker_client: docker.DockerClient, images: Images) -> Iterator[Engine]:
    made = Engine()
    try:
        made.start()
        image_store.copy(docker_client, made.client, (images.app,))
        yield made
    finally:
        made.remove()


@pytest.fixture
def private(engine: Engine, images: Images) -> Iterator[PrivateBed]:
    bed = PrivateBed(engine, images)
    yield bed
    bed.clear()


@pytest.fixture(params=["fake", pytest.param("real", marks=[pytest.mark.docker, pytest.mark.slow])])
def bed(request: pytest.FixtureRequest) -> Bed:
    found: Bed = FakeBed() if request.param == "fake" else request.getfixturevalue("private")
    return found


POLICIES = ("no", "on-failure", "unless-stopped", "always")
Story = dict[str, tuple[str, int | None]]


def plan(bed: Bed, name: str, number: int, **given: object) -> ContainerPlan:
    """A container of its own, whatever it is called."""
    return bed.plan(name=f"{bed.server}_{name}", address=bed.address(number), **given)


def story(bed: Bed) -> Story:
    """Status and exit code by the names in the tests."""
    bed.docker.invalidate()
    return {c.name.removeprefix(f"{bed.server}_"): (c.status, c.exit_code) for c in bed.docker.containers()[0]}


def becomes(bed: Bed, expected: Story) -> None:
    """Wait until it is so; show what it is instead if it does not become so."""
    with suppress(AssertionError):
        bed.wait(lambda: story(bed) == expected, 20, "it has come to rest")
    assert story(bed) == expected


def populated(bed: Bed) -> None:
    """Each policy: one that runs, and one that was stopped."""
    for number, policy in enumerate(POLICIES):
        bed.up(plan(bed, f"runs-{policy}", 10 + number, restart=policy))
        bed.up(plan(bed, f"stopped-{policy}", 20 + number, restart=policy))
        bed.docker.stop(f"{bed.server}_stopped-{policy}")
    bed.docker.create(plan(bed, "created-always", 30, restart="always"))


AFTER = {
    "runs-unless-stopped": ("running", None),
    "runs-always": ("running", None),
    "stopped-no": ("exited", 0),
    "stopped-on-failure": ("exited", 0),
    "stopped-unless-stopped": ("exited", 0),
    "stopped-always": ("running", None),
    "created-always": ("created", None),
}
"""What becomes of those of `populated` whatever ended them: status and exit code."""


def test_after_a_restart_of_docker_what_ended_well_runs_again_only_if_it_always_does(bed: Bed) -> None:
    populated(bed)
    bed.daemon_restarts()
    becomes(bed, AFTER | {"runs-no": ("exited", 0), "runs-on-failure": ("exited", 0)})


def test_after_a_power_cut_what_failed_with_it_runs_again_too(bed: Bed) -> None:
    populated(bed)
    bed.power_cut()
    becomes(bed, AFTER | {"runs-no": ("exited", 255), "runs-on-failure": ("running", None)})


def test_what_runs_again_has_its_address_and_another_process(bed: Bed) -> None:
    before = bed.up(bed.plan(restart="always"))
    bed.power_cut()
    bed.wait(lambda: bed.seen().running, 20, "it runs again")
    after = bed.seen()
    assert (after.id, after.address, after.drift) == (before.id, bed.address(10), ())
    assert after.pid not in (0, before.pid)
    assert after.restarts == 0


def test_a_pair_is_down_after_a_power_cut_and_comes_back_sidecar_first(bed: Bed) -> None:
    """FAULTS 15: the sidecar's policy is `no`, so that its application has nothing to join by itself."""
    bed.up(bed.sidecar(restart="no"))
    bed.up(bed.joined(restart="on-failure"))
    bed.power_cut()
    bed.wait(lambda: bed.seen(bed.instance.sidecar).status == bed.seen().status == "exited", 20, "both are down")
    assert bed.seen().address is None
    bed.docker.start(bed.instance.sidecar)
    bed.docker.start(bed.instance.name)
    assert (bed.seen().address, bed.seen().drift) == (bed.address(10), ())


def test_a_pair_is_down_after_a_restart_of_docker(bed: Bed) -> None:
    bed.up(bed.sidecar(restart="no"))
    bed.up(bed.joined(restart="on-failure"))
    bed.daemon_restarts()
    bed.wait(lambda: bed.seen(bed.instance.sidecar).status == bed.seen().status == "exited", 20, "both are down")
    assert bed.seen(bed.instance.sidecar).exit_code == 0
    with pytest.raises(Exception, match="cannot start"):
        bed.docker.start(bed.instance.name)


def test_networks_and_images_outlive_both(bed: Bed) -> None:
    bed.docker.create(bed.plan())
    image, networks = bed.docker.image(bed.app), bed.docker.own_networks()
    for event in (bed.daemon_restarts, bed.power_cut):
        event()
        assert (bed.docker.image(bed.app), bed.docker.own_networks()) == (image, networks)
        assert bed.seen().status == "created"
