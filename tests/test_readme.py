"""What the README and docs/ tell people to type exists and works, and every key, condition and snippet in them is true."""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from reconciler.cli import app
from reconciler.engine.settings import Settings
from reconciler.model.policy import Policy
from reconciler.model.source import SourceFile
from reconciler.plan.desired import validate

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/commands.md", "docs/status.md", "docs/operations.md", "docs/configuration.md")
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
PLAIN = ("cd", "journalctl", "systemctl")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, without their indentation."""
    found = FENCE.findall((ROOT / page).read_text())
    return ["\n".join(line.removeprefix(indent) for line in text.splitlines()) for indent, kind, text in found if kind == language]


def commands(page: str) -> Iterator[str]:
    """Every command of the page: lines of `sh` blocks, split at &&, and `make ...` or `reconcile ...` in the text."""
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            yield from (part.strip().removeprefix("sudo ") for part in line.split(" && "))
    text = FENCE.sub("", (ROOT / page).read_text())
    yield from (code for code in CODE.findall(text) if code.startswith(("make ", "reconcile ")))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def reconcile(*arguments: str) -> Result:
    """In this process: a program of its own for each command would take seconds."""
    return CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200"}).invoke(app, list(arguments))


@functools.cache
def told_by_help(command: str | None) -> str:
    ran = reconcile(*([command] if command else []), "--help")
    assert ran.exit_code == 0, ran.output
    return ran.output


ALL = sorted({command for page in PAGES for command in commands(page)})


def test_there_are_commands_to_check() -> None:
    assert {"make demo", "make demo-down", "reconcile --once", "reconcile validate sample-repo"} <= set(ALL)


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith("make ")])
def test_a_make_target_exists_and_names_tests_that_exist(command: str) -> None:
    words = shlex.split(command)[1:]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets
    for word in words:
        name, _, value = word.partition("=")
        if name == "ARGS" and value.startswith("tests/"):
            assert (ROOT / value).exists(), f"{value} is not there"


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith("reconcile ")])
def test_a_reconcile_command_and_its_options_exist(command: str) -> None:
    words = shlex.split(command)[1:]
    name = next((word for word in words if word.islower() and not word.startswith("-")), None)  # not URL, NAME or COMMAND
    for option in (word for word in words if word.startswith("-")):
        assert option in told_by_help(name) or option in told_by_help(None), f"{command}: no option {option}"
    assert told_by_help(name)


def test_commands_of_other_programs_are_known_ones() -> None:
    others = {shlex.split(c)[0] for c in ALL} - {"make", "reconcile"}
    assert others <= {"git", "python3", *PLAIN}


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith("git ")])
def test_a_git_command_exists(command: str) -> None:
    listed = run("git", "--list-cmds=main,others").stdout.split()
    assert shlex.split(command)[1] in listed


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith("python3 -c")])
def test_python_in_the_readme_prints_what_is_written_beside_it(command: str) -> None:
    code, _, promised = command.partition("  # ")
    ran = run(sys.executable, *shlex.split(code)[1:])
    assert ran.stdout.strip() == promised
    assert promised


def test_the_sample_repository_is_valid_for_the_command_in_the_readme() -> None:
    ran = reconcile("validate", "sample-repo")
    assert ran.exit_code == 0, ran.output


def test_the_config_of_the_readme_is_valid() -> None:
    files = snippets("README.md")
    assert {"cluster.yaml", "projects/shop/prod.yaml", "projects/shop/Dockerfile.web"} <= files.keys()
    assert [str(problem) for problem in validate(files, Policy())] == []


def test_a_misspelt_key_in_that_config_would_be_found() -> None:
    files = dict(snippets("README.md"))
    data = files["projects/shop/prod.yaml"].data
    assert data is not None
    files["projects/shop/prod.yaml"] = source("projects/shop/prod.yaml", data.decode().replace("needs: {db", "need: {db"))
    assert validate(files, Policy())


def test_the_settings_of_the_readme_are_valid() -> None:
    block = next(block for block in blocks("README.md", "yaml") if block.startswith("# /etc/reconciler/reconciler.yaml"))
    assert Settings.model_validate(yaml.safe_load(block)).server == "lon1-a"


def test_units_and_settings_that_are_named_are_there() -> None:
    named = set(re.findall(r"reconciler-?[a-z]*\.(?:service|timer)", "".join((ROOT / page).read_text() for page in PAGES)))
    assert sorted(name for name in {*named, "reconciler.service", "install"} if not (ROOT / "systemd" / name).is_file()) == []


def test_the_tables_of_keys_are_those_of_the_schemas() -> None:
    checked = run(sys.executable, str(ROOT / "tools/configuration_page.py"), "--check")
    assert checked.returncode == 0, checked.stderr


def test_every_reason_of_a_condition_or_a_stall_is_explained() -> None:
    sources = [path.read_text() for path in (ROOT / "reconciler").rglob("*.py")]
    reasons = {reason for text in sources for reason in re.findall(r'reason(?:: str)? ?= ?"([A-Z][A-Za-z]+)"', text)}
    types = {kind for text in sources for kind in re.findall(r'Condition\(\s*type="([A-Za-z]+)"', text)}
    explained = set(CODE.findall((ROOT / "docs/operations.md").read_text()))
    assert len(reasons) > 20
    assert len(types) > 5
    assert sorted((reasons | types) - explained) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines() if line[:1] == "#"
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, f"{page}: no heading {target}"
        else:
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target} is not there"


def snippets(page: str) -> Mapping[str, SourceFile]:
    """The config repository that the page's snippets make: each names its path in its first line."""
    found = {}
    for block in [*blocks(page, "yaml"), *blocks(page, "dockerfile")]:
        path = block.splitlines()[0].removeprefix("# ")
        if not path.startswith("/"):
            found[path] = source(path, block + "\n")
    return found


def source(path: str, text: str) -> SourceFile:
    return SourceFile(path=path, mode=0o100644, oid="0" * 40, data=text.encode())
