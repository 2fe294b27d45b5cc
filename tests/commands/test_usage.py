"""What is wrong with a call is said before anything is done, with the exit code for it."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from reconciler.commands.arguments import hoisted
from tests.commands.told import cluster, run, state_dir


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A settings file of its own, so that none of the machine's is read."""
    file = tmp_path / "settings.yaml"
    file.write_text("branch: main\n")
    return file


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["--once", "--timeout", "soon"],
        ["--once", "status"],
        ["--dry-run"],
        ["history", "-n", "0"],
        ["retry"],
    ],
)
def test_a_wrong_call_ends_with_1_and_says_why(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.strip()


def test_missing_settings_are_named_all_at_once_and_end_with_1(settings: Path) -> None:
    result = run("--once", "--config", settings)
    assert result.exit_code == 1
    assert "repo: is not set" in result.stderr and "server: is not set" in result.stderr


def test_an_unknown_setting_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("branch: main\nservre: one\n")
    result = run("status", "--config", file)
    assert result.exit_code == 1
    assert f"{file}:2:1" in result.stderr and "server" in result.stderr


def test_a_state_directory_in_use_ends_with_2_and_names_the_holder(settings: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with open(state / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("pid 4711 (reconcile run)")
        lock.flush()
        result = run("--once", "--config", settings, "--repo", tmp_path, "--server", "one", "--state-dir", state)
    assert result.exit_code == 2
    assert "pid 4711 (reconcile run)" in result.stderr


def test_a_docker_that_does_not_answer_ends_with_2_at_once(settings: Path, tmp_path: Path) -> None:
    gone = f"unix://{tmp_path}/no.sock"
    arguments = ("--config", settings, "--repo", tmp_path, "--server", "one", "--state-dir", tmp_path / "state", "--docker", gone)
    result = run("--once", *arguments)
    assert result.exit_code == 2
    assert "Docker does not answer" in result.stderr and gone in result.stderr


def test_a_repository_that_is_not_there_ends_with_2(settings: Path, tmp_path: Path) -> None:
    result = run("status", "--config", settings, "--repo", tmp_path / "nothing.git", "--state-dir", tmp_path / "state")
    assert result.exit_code == 2
    assert "nothing.git" in result.stderr


def test_help_names_every_exit_code() -> None:
    text = " ".join(run("--help").stdout.split())
    for code in ("0 done", "1 something that was given is wrong", "2 something could not be done", "3 not converged yet"):
        assert code in text


def test_without_a_command_the_help_is_shown() -> None:
    result = run()
    assert result.exit_code == 0
    assert "--once" in result.stdout


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0 and result.stdout.startswith("reconcile ")


def test_global_options_may_stand_before_and_after_the_command(settings: Path, tmp_path: Path) -> None:
    state = state_dir(tmp_path / "state")
    before = run("--json", "--config", settings, f"--state-dir={state}", "status")
    after = run("status", "--state-dir", state, "--config", settings, "--json")
    assert before.exit_code == after.exit_code == 0
    assert json.loads(before.stdout) == json.loads(after.stdout)


def test_options_move_to_the_front_with_their_values_and_nothing_after_two_dashes_does() -> None:
    moved = hoisted(["status", "--repo", "--json", "x", "--", "--json"], ("--repo",), ("--json",))
    assert moved == ["--repo", "--json", "status", "x", "--", "--json"]


def test_a_setting_from_the_environment_is_heeded_and_an_option_goes_before_it(settings: Path, tmp_path: Path) -> None:
    state = state_dir(tmp_path / "state")
    other = state_dir(tmp_path / "other", cluster().model_copy(update={"generation": 99}))
    env = {"RECONCILER_STATE_DIR": str(other)}
    assert json.loads(run("status", "--config", settings, "--json", env=env).stdout)["generation"] == 99
    assert json.loads(run("status", "--config", settings, "--json", "--state-dir", state, env=env).stdout)["generation"] == 7


def test_the_shell_completes_services_from_the_state_directory(tmp_path: Path) -> None:
    state = state_dir(tmp_path / "state")
    env = {"_RECONCILE_COMPLETE": "complete_bash", "COMP_WORDS": "reconcile status shop/prod/w", "COMP_CWORD": "2"}
    result = run(env={**env, "RECONCILER_STATE_DIR": str(state)})
    assert result.stdout.split() == ["shop/prod/web"]


@pytest.mark.parametrize(
    ("typed", "completed"), [("status --cl", "--cluster"), ("status --al", "--all"), ("--status-", "--status-repo")]
)
def test_the_shell_completes_options(typed: str, completed: str) -> None:
    words = f"reconcile {typed}"
    env = {"_RECONCILE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert completed in run(env=env).stdout.split()
