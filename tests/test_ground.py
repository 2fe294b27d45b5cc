"""The ground that the tests stand on: the rule about Docker, waiting, and the Git host of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.remote import Remote

ROOT = Path(__file__).resolve().parents[1]
NEEDS_DOCKER = """
import pytest

@pytest.mark.docker
def test_that_needs_docker():
    pass

def test_that_does_not():
    pass
"""


def run_pytest(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs one test that needs Docker and one that does not, with an Engine address at which nothing answers."""
    (directory / "tests/integration").mkdir(parents=True)
    (directory / "tests/integration/test_two.py").write_text(NEEDS_DOCKER)
    (directory / "conftest.py").write_text("pytest_plugins = ['tests.conftest']\n")
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = docker: needs Docker\n")
    environment = {**os.environ, "DOCKER_HOST": f"unix://{directory}/none.sock", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(directory), *options]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)


def test_without_an_engine_a_docker_test_fails_and_says_what_to_install(tmp_path: Path) -> None:
    result = run_pytest(tmp_path)
    assert result.returncode == 1
    assert "1 passed, 1 error" in result.stdout
    assert "make docker" in result.stdout
    assert "skipped" not in result.stdout


def test_leaving_docker_tests_out_is_said_in_the_output(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, "--without-docker")
    assert result.returncode == 0, result.stdout
    assert "1 passed, 1 deselected" in result.stdout
    assert "LEFT OUT" in result.stdout


def test_eventually_returns_the_first_true_answer_and_forgives_errors_before_it(eventually: Callable[..., object]) -> None:
    answers = iter([ZeroDivisionError(), 0, 7])

    def condition() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert eventually(condition, 5, "seven") == 7


def test_eventually_names_what_it_waited_for_and_what_it_saw(eventually: Callable[..., object]) -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: the moon \(last: 0\)"):
        eventually(lambda: 0, 0.05, "the moon")


def test_remote_commits_change_and_remove_files_and_revert(git_remote: Remote) -> None:
    first = git_remote.commit({"a/b.yaml": "one\n", "c": "see\n"}, "First\n\nServer: demo")
    second = git_remote.commit({"a/b.yaml": "two\n", "c": None, "d": "new\n"}, "Second")
    assert [commit.subject for commit in git_remote.log("main")] == ["Second", "First"]
    assert git_remote.log("main")[1].body.strip() == "Server: demo"
    assert git_remote.show("main", "a/b.yaml") == "two\n"
    assert git_remote.show(first, "c") == "see\n"

    git_remote.revert(second)
    assert git_remote.show("main", "a/b.yaml") == "one\n"
    assert git_remote.git("ls-tree", "-r", "--name-only", "main").split() == ["a/b.yaml", "c"]

    git_remote.move("main", None)
    assert git_remote.branches() == {}
    assert git_remote.log("main") == []
