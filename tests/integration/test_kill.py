"""kill -9: at every step of an update, and at random instants. What was begun is finished, and no client notices."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest

from tests.integration.conftest import SCOPE_LABEL, Scope, own_name
from tests.integration.images import Images
from tests.integration.kill_rig import KILLED, Patient, Step, clients
from tests.integration.program import Program
from tests.integration.server import Server, one_server  # noqa: F401 - the fixture `server`
from tests.remote import Remote
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

LANES = 3
BEYOND = 2
"""Points tried beyond the steps of the recorded update, since their number differs a little from run to run."""

ONLY_AFTER = ("journal", "publish", "rename", "hang up")
"""Parts of what the engine does around effects: before one of them is after the step before it."""

TRIES = 2
SEED = 20


@pytest.fixture
def patients(
    docker_client: docker.DockerClient, images: Images, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[tuple[Patient, ...]]:
    """Servers side by side, each with a repository and a corner of Docker of its own."""
    with ExitStack() as stack:
        made = []
        for number in range(LANES):
            name = own_name()
            scope = Scope(docker_client, name, {SCOPE_LABEL: name})
            stack.callback(scope.remove_everything)
            remote = Remote.create(tmp_path / f"{number}.git")
            server = Server(scope, images, remote, tmp_path / str(number), free_port)
            stack.callback(server.close)
            made.append(Patient(server))
        yield tuple(made)


def test_killed_before_and_after_every_step_of_an_update_it_goes_on_and_no_request_is_lost(patients: tuple[Patient, ...]) -> None:
    """FAULTS 1, and 14 (what a killed create left), 21 (a file on disk that is not what is loaded), 33 (a push of unknown outcome).

    The steps are those that the program itself records, so that a new one is covered by itself.
    """
    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(_deployed, patients))
        learned = patients[0]
        version = learned.commit()
        code, steps = learned.record()
        assert code == 0
        learned.check_converged(version)
        points = list(dict.fromkeys(f"{s.when}:{s.number}" for s in steps if not _left_out(s)))
        last = max(step.number for step in steps)
        points += [f"after:{last + more}" for more in range(1, BEYOND + 1)]
        work, died, lock = iter(points), Counter[str](), threading.Lock()

        def lane(patient: Patient) -> None:
            with clients(patient.server):
                while True:
                    with lock:
                        point = next(work, None)
                    if point is None:
                        return
                    killed, seen = _killed_at(patient, point)
                    with lock:
                        died[seen[-1].about if killed else "nowhere"] += 1

        began = time.monotonic()
        for lane_ended in [pool.submit(lane, patient) for patient in patients]:
            lane_ended.result()
        print(f"\n{sum(died.values())} updates killed in {time.monotonic() - began:.0f} s: {dict(died)}")

    with clients(learned.server, wanted=1):
        for about in sorted({step.about for step in steps if not _left_out(step)} - died.keys()):
            assert _killed_there(learned, steps, about), f"never killed {about}: {dict(died)}"


def test_killed_at_random_instants_while_two_services_are_updated_it_converges_and_no_request_is_lost(server: Server) -> None:
    """FAULTS 1: also in the middle of a step, with a `git` or a Docker call under way; the commits come meanwhile."""
    chance = random.Random(SEED)
    patient = Patient(server, ("web", "api"))
    _deployed(patient)
    with clients(server, "web.example"), clients(server, "api.example"):
        version = str(patient.version)
        for number in range(20):
            if number % 2 == 0:
                version = patient.commit()
            with Program(server, "run") as program:
                program.says("reconciling", 30)
                instant = chance.uniform(0.0, 4.0)
                threading.Event().wait(instant)
                assert program.running, program.said[-4000:]
                program.kill()
            patient.check_two_slots_at_most()
        with Program(server, "run") as program:
            program.says("reconciling", 30)
            eventually(lambda: patient.is_converged(version), 90, lambda: f"convergence; it said:\n{program.said[-4000:]}")
            assert program.end() == 0
        patient.check_converged(version)


def _deployed(patient: Patient) -> None:
    version = patient.commit()
    patient.converge()
    patient.check_converged(version)


def _left_out(step: Step) -> bool:
    return step.when == "before" and step.what.startswith(ONLY_AFTER)


def _killed_at(patient: Patient, point: str) -> tuple[bool, list[Step]]:
    """One update that is killed at the point, and started again. Returns whether it died there, and the steps up to there."""
    volumes = patient.volumes()
    version = patient.commit()
    code, steps = patient.record(point)
    try:
        patient.check_two_slots_at_most()
        patient.converge()
        patient.check_two_slots_at_most()
        patient.check_converged(version)
        assert patient.volumes() == volumes and volumes
    except AssertionError as error:
        raise AssertionError(f"killed at {point} ({steps[-1]}): {error}") from error
    return code == KILLED, steps


def _killed_there(patient: Patient, steps: list[Step], about: str) -> bool:
    """The same for one step by what it says: its number differs from run to run, as steps overlap."""
    point = next(step.point for step in steps if step.about == about)
    for _ in range(TRIES):
        died, seen = _killed_at(patient, point)
        if died and seen[-1].about == about:
            return True
    return False
