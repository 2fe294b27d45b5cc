"""`status` and `history` read what servers have said, from the server itself or from anywhere, and write nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.model.cluster import SCHEMA
from tests.commands.told import API, LIVE, TIP, WEB, as_yaml, cluster, contents, report, run, state_dir
from tests.remote import Remote


@pytest.fixture
def told(git_remote: Remote) -> Remote:
    """A repository whose status branches hold a decision, in two commits, and a server's report."""
    git_remote.commit({"cluster.yaml": "servers: {one: {}}\n"}, "Config")
    trailers = f"Config-Revision: {LIVE}\nGeneration: 6\nServer: one\n"
    git_remote.commit({"cluster.yaml": as_yaml(cluster())}, f"one: {API} done: first deploy\n\n{trailers}", "status/cluster")
    trailers = f"Config-Revision: {TIP}\nGeneration: 7\nServer: one\n"
    message = f'one: config aaaaaaa -> bbbbbbb "New"\n\n- {WEB} staging: env X\n- {WEB} aborted: one: status 500\n\n{trailers}'
    git_remote.commit({"README.md": "page"}, message, "status/cluster")
    git_remote.commit({"report.yaml": as_yaml(report())}, "one: report", "status/one")
    return git_remote


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text(f"branch: main\nstate_dir: {tmp_path}/none\n")
    return file


def test_the_server_shows_what_is_live_and_what_was_refused_with_its_last_words(settings: Path, tmp_path: Path) -> None:
    state = state_dir(tmp_path / "state")
    before = contents(state)
    result = run("status", "--config", settings, "--state-dir", state)
    assert result.exit_code == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if line.startswith(WEB))
    assert "aaaaaaa" in row and "one primary" in row and "bbbbbbb refused" in row
    assert "one: status 500" in result.stdout and f"reconcile retry {WEB}" in result.stdout
    assert contents(state) == before


@pytest.mark.parametrize("asked", [("status",), ("retry", WEB), ("plan", "--repo", "/none", "--server", "one")])
def test_what_a_newer_program_left_on_the_server_is_not_read_as_ones_own(
    settings: Path, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    state = state_dir(tmp_path / "state", cluster().model_copy(update={"schema_": SCHEMA + 1}))
    before = contents(state)
    result = run(*asked, "--config", settings, "--state-dir", state)
    assert result.exit_code == 2, result.stdout
    assert f"cluster.json has schema {SCHEMA + 1}, this program knows {SCHEMA}" in " ".join(result.stderr.split())
    assert contents(state) == before


def test_markup_is_text_and_escape_sequences_are_made_visible(settings: Path, tmp_path: Path) -> None:
    """FAULTS 60."""
    result = run("status", "--config", settings, "--state-dir", state_dir(tmp_path / "state"))
    assert "[red]starting[/red]" in result.stdout
    assert "\x1b" not in result.stdout and "evil \\x1b[2J line" in result.stdout


def test_anywhere_the_status_branches_tell_the_same_and_what_each_member_acknowledged(settings: Path, told: Remote) -> None:
    before = told.branches()
    result = run("status", "--config", settings, "--repo", told.path)
    assert result.exit_code == 0, result.stderr
    member = next(line for line in result.stdout.splitlines() if line.startswith("one "))
    assert "generation 6" in member and "not ready" in member
    assert "ignored its stop signal" in result.stdout
    assert told.branches() == before


def test_json_has_every_service_and_member(settings: Path, told: Remote) -> None:
    found = json.loads(run("status", "--config", settings, "--repo", told.path, "--json").stdout)
    assert [service["service"] for service in found["services"]] == [API, WEB]
    web = found["services"][1]
    assert web["live"] == LIVE and web["rejected"]["revision"] == TIP and web["slots"] == ["one primary"]
    assert found["members"] == [{"server": "one", "reported": True, "serves": 6, "current": False, "ready": False, "program": "0"}]
    assert found["conditions"]["one"][0]["reason"] == "Progressing"


def test_one_service_is_found_by_the_end_of_its_name(settings: Path, told: Remote) -> None:
    result = run("status", "web", "--config", settings, "--repo", told.path)
    assert result.exit_code == 0
    assert WEB in result.stdout and API not in result.stdout


def test_a_service_that_is_not_there_ends_with_1_and_the_names_that_are(settings: Path, told: Remote) -> None:
    result = run("status", "shop/prod/nope", "--config", settings, "--repo", told.path)
    assert result.exit_code == 1
    assert API in result.stderr and WEB in result.stderr


def test_before_the_first_decision_that_is_what_is_said(settings: Path, git_remote: Remote) -> None:
    git_remote.commit({"cluster.yaml": "servers: {one: {}}\n"}, "Config")
    result = run("status", "--config", settings, "--repo", git_remote.path)
    assert result.exit_code == 0 and "no decision" in result.stdout
    assert run("history", "--config", settings, "--repo", git_remote.path).exit_code == 2


def test_history_shows_the_newest_decision_first_with_its_config_commit(settings: Path, told: Remote) -> None:
    found = json.loads(run("history", "--config", settings, "--repo", told.path, "--json").stdout)
    assert [(view["generation"], view["config"]) for view in found] == [("7", TIP), ("6", LIVE)]
    assert found[0]["reasons"] == ['config aaaaaaa -> bbbbbbb "New"', f"{WEB} staging: env X", f"{WEB} aborted: one: status 500"]
    assert found[1]["reasons"] == [f"{API} done: first deploy"]


def test_history_of_a_service_has_only_what_was_decided_about_it_and_stops_at_the_limit(settings: Path, told: Remote) -> None:
    web = run("history", "web", "--config", settings, "--repo", told.path)
    assert "aborted" in web.stdout and "config aaaaaaa" not in web.stdout and API not in web.stdout
    limited = json.loads(run("history", "-n", "1", "--config", settings, "--repo", told.path, "--json").stdout)
    assert len(limited) == 1


def test_wide_tables_are_folded_and_not_cut_at_80_columns(settings: Path, told: Remote) -> None:
    result = run("status", "--config", settings, "--repo", told.path, env={"COLUMNS": "80"})
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert f"reconcile retry {WEB}" in " ".join(result.stdout.split())


def test_a_long_name_is_folded_and_stays_whole_on_a_narrow_terminal(settings: Path, tmp_path: Path) -> None:
    state = cluster()
    name = "a-project-with-a-long-name/production/a-service-with-a-long-name-too"
    long = state.model_copy(update={"services": {name: state.services[API]}})
    result = run("status", "--config", settings, "--state-dir", state_dir(tmp_path / "state", long), env={"COLUMNS": "60"})
    rows = [line.split() for line in result.stdout.splitlines()]
    assert max(map(len, result.stdout.splitlines())) <= 60
    first_column = "".join(row[0] for row in rows[3:] if row and row[0] in name)
    assert name in first_column, result.stdout
