"""`reconcile validate` needs nothing but the files."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands.told import run

SAMPLE = Path(__file__).resolve().parents[2] / "sample-repo"

BROKEN = "project:\n  name: shop\n  services:\n    web: {image: nginx, prot: 80}\n    api: {image: x}\n"


def _repository(root: Path, text: str = BROKEN) -> Path:
    (root / "projects" / "shop").mkdir(parents=True)
    (root / "projects" / "shop" / "prod.yaml").write_text(text)
    return root


def test_the_sample_is_valid_and_counted() -> None:
    result = run("validate", SAMPLE)
    assert result.exit_code == 0
    assert result.stdout == "1 project, 3 services: valid\n"


def test_every_problem_is_a_line_with_its_place_and_the_code_is_1(tmp_path: Path) -> None:
    result = run("validate", _repository(tmp_path))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith("projects/shop/prod.yaml:4:") and "prot" in line for line in lines), lines
    assert all(line.startswith("projects/shop/prod.yaml") for line in lines)


def test_json_is_a_list_of_problems_and_an_empty_one_when_all_is_well(tmp_path: Path) -> None:
    broken = run("validate", _repository(tmp_path), "--json")
    assert broken.exit_code == 1
    first = json.loads(broken.stdout)[0]
    assert set(first) == {"path", "line", "column", "message"} and first["line"] == 4
    assert json.loads(run("validate", SAMPLE, "--json").stdout) == []


def test_a_file_of_the_repository_stands_for_what_is_wrong_in_it(tmp_path: Path) -> None:
    root = _repository(tmp_path)
    (root / "projects" / "good").mkdir()
    good = root / "projects" / "good" / "prod.yaml"
    good.write_text("project: {name: good, services: {db: {image: 'redis:7'}}}\n")
    result = run("validate", good)
    assert result.exit_code == 0, result.output
    assert f"part of the config repository {root}" in result.stderr and "elsewhere" in result.stderr


def test_a_directory_that_is_no_config_repository_is_said_to_be_none(tmp_path: Path) -> None:
    result = run("validate", tmp_path)
    assert result.exit_code == 1
    assert "no config repository" in result.stderr


def test_a_server_that_is_not_in_the_inventory_is_only_noticed_by_name(tmp_path: Path) -> None:
    text = "project: {name: shop, services: {web: {image: 'nginx:1', servers: [two]}}}\n"
    root = _repository(tmp_path, text)
    assert run("validate", root).exit_code == 0
    result = run("validate", root, "--server", "one")
    assert result.exit_code == 1 and '"two" is not a server' in result.stdout


def test_a_policy_file_allows_what_is_refused_without_it(tmp_path: Path) -> None:
    root = _repository(tmp_path / "repo", "project: {name: shop, services: {web: {image: 'nginx:1', privileged: true}}}\n")
    policy = tmp_path / "policy.yaml"
    policy.write_text("allow_privileged: [shop]\n")
    assert run("validate", root).exit_code == 1
    assert run("validate", root, "--policy", policy).exit_code == 0


def test_a_name_with_an_escape_sequence_does_not_reach_the_terminal(tmp_path: Path) -> None:
    """FAULTS 60."""
    root = _repository(tmp_path, 'project:\n  name: shop\n  services:\n    "w\\e[2Jeb": {image: x}\n')
    result = run("validate", root)
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout and "x1b" in result.stdout


def test_a_project_directory_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = _repository(tmp_path / "outside")
    root = tmp_path / "repo"
    (root / "projects").mkdir(parents=True)
    (root / "projects" / "shop").symlink_to(outside / "projects" / "shop")
    result = run("validate", root)
    assert result.exit_code == 1 and "symbolic link" in result.stdout and "prot" not in result.stdout
