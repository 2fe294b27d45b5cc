"""`retry` writes a request that counts for one attempt, and only where there is something to try again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.effects.journal import Journal
from reconciler.engine.requests import RETRY_FILE, wishes
from reconciler.model.cluster import ClusterState
from tests.commands.told import API, WEB, cluster, run, state_dir


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return state_dir(tmp_path / "state")


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text("branch: main\n")
    return file


def _moved_on(state: ClusterState) -> ClusterState:
    web = state.services[WEB]
    assert web.rollout is not None
    begun = web.model_copy(update={"rollout": web.rollout.model_copy(update={"id": "bbbbbbb/2", "phase": "staging"})})
    return state.model_copy(update={"services": {**state.services, WEB: begun}})


def test_the_wish_names_the_rollout_that_was_refused_and_is_read_by_the_next_pass(settings: Path, state: Path) -> None:
    result = run("retry", WEB, "--config", settings, "--state-dir", state, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rollout"] == "bbbbbbb/1"
    assert wishes(Journal(state), cluster()) == (f"{WEB}@bbbbbbb/1",)


def test_once_a_new_attempt_has_begun_the_wish_counts_no_more(settings: Path, state: Path) -> None:
    run("retry", WEB, "--config", settings, "--state-dir", state)
    assert wishes(Journal(state), _moved_on(cluster())) == ()


def test_a_rollout_that_is_under_way_is_not_asked_for(settings: Path, state: Path) -> None:
    run("retry", WEB, "--config", settings, "--state-dir", state)
    web = cluster().services[WEB]
    assert web.rollout is not None
    again = web.model_copy(update={"rollout": web.rollout.model_copy(update={"phase": "staging"})})
    assert wishes(Journal(state), cluster().model_copy(update={"services": {WEB: again}})) == ()


def test_a_second_wish_changes_nothing(settings: Path, state: Path) -> None:
    run("retry", WEB, "--config", settings, "--state-dir", state)
    once = (state / RETRY_FILE).read_bytes()
    assert run("retry", "web", "--config", settings, "--state-dir", state).exit_code == 0
    assert (state / RETRY_FILE).read_bytes() == once


def test_what_was_not_refused_cannot_be_tried_again(settings: Path, state: Path) -> None:
    result = run("retry", API, "--config", settings, "--state-dir", state)
    assert result.exit_code == 1 and "nothing to try again" in result.stderr
    assert not (state / RETRY_FILE).exists()


def test_elsewhere_than_on_a_server_it_says_so(settings: Path, tmp_path: Path) -> None:
    result = run("retry", WEB, "--config", settings, "--state-dir", tmp_path / "none")
    assert result.exit_code == 1 and "on a server" in result.stderr


def test_a_damaged_file_of_wishes_holds_none(state: Path) -> None:
    (state / RETRY_FILE).write_bytes(b'["torn')
    assert wishes(Journal(state), cluster()) == ()
