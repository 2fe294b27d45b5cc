"""The prober and the Docker adapter together, with the faults of the test application: FAULTS 8, 9, 10."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import docker
import pytest

from reconciler.effects.probes import Inside, Prober, Target
from reconciler.model.container import Publish
from reconciler.model.desired import Health
from reconciler.model.observed import Gate
from tests.integration import docker_rig
from tests.integration.conftest import Scope
from tests.integration.docker_rig import Rig
from tests.integration.images import Images
from tests.waiting import eventually

pytestmark = pytest.mark.docker
HTTP = Health(kind="http", path="/up", interval=0.1, timeout=0.5, retries=5, successes=2)


@pytest.fixture
def rig(scope: Scope, docker_client: docker.DockerClient, images: Images) -> Iterator[Rig]:
    made = docker_rig.rig(scope, docker_client, images)
    yield made
    made.docker.close()


@pytest.fixture
def prober(rig: Rig) -> Iterator[Prober]:
    made = Prober(Inside(rig.docker.exec, rig.docker.health, rig.docker.logs), threading.Event().set)
    yield made
    made.close()


def gate(rig: Rig, prober: Prober, health: Health, **env: str) -> Gate:
    """Start the application with these faults and watch it, as a daemon does, until its gate has ended."""
    plan = rig.plan(env=tuple(env.items()), restart="on-failure")
    identity = rig.docker.create(plan)
    began = time.monotonic()
    rig.docker.start(identity)

    def ended() -> bool:
        container = rig.seen()
        over = f"exited with code {container.exit_code}" if container.status in ("exited", "dead") else None
        target = Target(health, container.address, port=8080, pid=container.pid, started=began, ended=over)
        prober.watch({identity: target})
        return prober.gates()[identity].state != "waiting"

    eventually(ended, 60, lambda: str(prober.gates()))
    return prober.gates()[identity]


def test_an_application_that_answers_passes(rig: Rig, prober: Prober) -> None:
    passed = gate(rig, prober, HTTP.model_copy(update={"start_period": 30.0}), START_DELAY="0.5")
    assert passed.state == "passed" and passed.after >= 0.5


@pytest.mark.parametrize("fault", ["FAIL_HEALTH", "HANG_HEALTH", "NO_LISTEN"])
def test_an_application_that_does_not_answer_well_fails_with_its_log(rig: Rig, prober: Prober, fault: str) -> None:
    """FAULTS 10."""
    failed = gate(rig, prober, HTTP, **{fault: "1"})
    assert (failed.state, failed.failures) == ("failed", 5)
    assert failed.error


def test_a_flapping_application_does_not_pass_with_enough_successes_asked(rig: Rig, prober: Prober) -> None:
    """FAULTS 10: every second answer is 500."""
    patient = HTTP.model_copy(update={"retries": 3, "timeout": 10.0})  # an answer that is late is none, and not every second one
    plan = rig.plan(env=(("FLAP_HEALTH", "2"),))
    identity = rig.up(plan).id
    target = Target(health=patient, address=rig.address(10), port=8080, pid=rig.seen().pid)
    prober.watch({identity: target})
    errors: set[str | None] = set()

    def tried() -> bool:
        errors.add(prober.gates()[identity].error)
        return prober.gates()[identity].after > 2 and any("status 500" in (error or "") for error in errors)

    eventually(tried, 30, lambda: str(errors))
    assert prober.gates()[identity].state == "waiting"


def test_an_application_that_dies_after_it_was_healthy_does_not_pass(rig: Rig, prober: Prober) -> None:
    """FAULTS 9: it answers, exits 3 within the time that it has to stay healthy, and is restarted, again and again."""
    steady = HTTP.model_copy(update={"min_healthy_time": 3.0, "retries": 4})
    failed = gate(rig, prober, steady, CRASH_AFTER="0.6")
    assert failed.state == "failed"


def test_a_published_port_is_not_what_is_probed(rig: Rig, prober: Prober, free_port: Callable[[], int]) -> None:
    """docker-proxy accepts before the application listens: TCP to the published port is green, the gate is not."""
    publish = (Publish(host_address="127.0.0.1", host_port=free_port(), container_port=8080),)
    identity = rig.docker.create(rig.plan(env=(("NO_LISTEN", "1"),), publish=publish))
    rig.docker.start(identity)
    tcp = Health(kind="tcp", interval=0.1, timeout=0.5, retries=3)
    prober.watch({identity: Target(health=tcp, address=rig.address(10), port=8080, pid=rig.seen().pid)})
    eventually(lambda: prober.gates()[identity].state == "failed", 30)


def test_a_command_runs_in_the_container(rig: Rig, prober: Prober) -> None:
    good = Health(kind="command", command=("sh", "-c", 'test -e /app.py && test "$WHO" = app'), interval=0.1, timeout=3)
    assert gate(rig, prober, good, WHO="app").state == "passed"


def test_a_command_that_hangs_fails_in_its_time(rig: Rig, prober: Prober) -> None:
    """FAULTS 10."""
    stuck = Health(kind="command", command=("sleep", "60"), interval=0.1, timeout=0.3, retries=2)
    failed = gate(rig, prober, stuck)
    assert failed.state == "failed" and "0.3 s" in (failed.error or "")


def test_dockers_own_health_state_is_read_from_a_real_check(rig: Rig, prober: Prober) -> None:
    """FAULTS 8: healthy counts while its checks are made; the stale case stands in tests/effects/test_docker_health.py."""
    tag = f"reconciler/build:{rig.scope.name}-health"
    lines = f"FROM {rig.images.app}\nHEALTHCHECK --interval=1s --timeout=2s CMD true\n"
    rig.docker.build(tag, {"Dockerfile": (0o100644, lines.encode())}, "Dockerfile")
    container = rig.up(rig.plan(image=tag))
    health = Health(kind="docker", interval=0.1, timeout=3, retries=500)
    prober.watch({container.id: Target(health=health, address=None, port=0, pid=container.pid)})
    eventually(lambda: prober.gates()[container.id].state == "passed", 60, lambda: str(prober.gates()))
    rig.docker.stop(container.id)
    rig.docker.remove(container.id)
    rig.docker.remove_unused_images(frozenset())
    assert rig.docker.image(tag) is None


def test_docker_health_needs_a_healthcheck(rig: Rig, prober: Prober) -> None:
    failed = gate(rig, prober, Health(kind="docker", interval=0.1, timeout=3, retries=2))
    assert failed.state == "failed" and "has no HEALTHCHECK" in (failed.error or "")
