"""`make test` runs two tests at a time, but never two that share something of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lanes import LANES, lane

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parent.parent
SAYS = "import pytest\n\n\n@pytest.mark.parametrize('n', range(6))\ndef test_it(n):\n    pass\n"
NEEDS_DOCKER = "import pytest\npytestmark = pytest.mark.docker\n\n\ndef test_it():\n    pass\n"


@pytest.fixture
def tree(pytester: pytest.Pytester) -> Path:
    """A project with this one's conftest."""
    tests = pytester.mkdir("tests")
    for name in ("conftest.py", "lanes.py", "ports.py", "remote.py", "waiting.py"):
        (tests / name).write_text((ROOT / "tests" / name).read_text())
    pytester.makeini("[pytest]\npythonpath = .\nmarkers = docker\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    (tests / "integration").mkdir()
    return tests


def workers(outcome: pytest.RunResult, path: str) -> set[str]:
    """Which workers ran the tests of a file."""
    return {
        line.split("]")[0].strip("[") for line in outcome.outlines if line.startswith("[gw") and "PASSED" in line and path in line
    }


@pytest.mark.slow
def test_what_shares_the_engine_is_run_by_one_worker_and_the_rest_by_whoever_is_free(pytester: pytest.Pytester, tree: Path) -> None:
    (tree / "integration/test_one.py").write_text(SAYS)
    (tree / "integration/test_other.py").write_text(SAYS)
    (tree / "test_pure.py").write_text(SAYS)
    outcome = pytester.runpytest_subprocess("-n", "2", "-v", "tests")
    outcome.assert_outcomes(passed=18)
    shared = workers(outcome, "integration/test_one.py") | workers(outcome, "integration/test_other.py")
    assert len(shared) == 1
    assert workers(outcome, "test_pure.py") - shared, "the other worker had nothing to do"


def test_a_lane_is_found_by_the_first_beginning_that_fits() -> None:
    daemon = "tests/integration/test_daemon.py::test_"
    assert lane(f"{daemon}docker_gone_and_back_is_said_once_and_what_was_live_is_back") == lane(
        "tests/cluster/test_demo.py::test_x"
    )
    assert lane(f"{daemon}restarts_in_a_loop_change_nothing") == lane("tests/contract/test_docker_contract.py::test_x[fake]")
    assert lane("tests/plan/test_pins.py::test_x") is None


@pytest.mark.parametrize("beginning", LANES)
def test_every_lane_has_tests(beginning: str) -> None:
    path, _, test = beginning.partition("::")
    assert (ROOT / path).exists() and f"def {test}" in ((ROOT / path).read_text() if test else "def ")


@pytest.mark.slow
def test_what_a_worker_starts_does_not_believe_in_a_terminal(pytester: pytest.Pytester, tree: Path) -> None:
    (tree / "test_pure.py").write_text("import os\n\n\ndef test_it():\n    assert 'COLUMNS' not in os.environ\n")
    pytester.runpytest_subprocess("-n", "1", "tests").assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_test_that_needs_docker_and_has_no_lane_is_refused(pytester: pytest.Pytester, tree: Path) -> None:
    (tree / "test_stray.py").write_text(NEEDS_DOCKER)
    outcome = pytester.runpytest_subprocess("tests")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*give tests/test_stray.py a lane in tests/lanes.py*"])


@pytest.mark.slow
def test_with_docker_left_out_the_first_and_the_last_lines_say_so(pytester: pytest.Pytester, tree: Path) -> None:
    (tree / "integration/test_one.py").write_text(NEEDS_DOCKER)
    (tree / "test_pure.py").write_text(SAYS)
    outcome = pytester.runpytest_subprocess("-n", "2", "--without-docker", "tests")
    outcome.assert_outcomes(passed=6)
    said = [line for line in outcome.outlines if "LEFT OUT" in line]
    assert len(said) == 2
    assert said[1] in outcome.outlines[-2:]
