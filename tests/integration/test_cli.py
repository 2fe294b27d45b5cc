"""The commands on a real server: a Docker Engine, nginx and a repository of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from reconciler.commands.asking import asked
from reconciler.commands.invocation import Invocation
from tests.commands.told import contents
from tests.integration.conftest import Scope
from tests.integration.images import Images
from tests.remote import Remote

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"http": "/up", "interval": "200ms", "timeout": "2s", "retries": 150}
"""A gate that passes soon after a healthy start, and waits for one on a busy machine."""


@dataclass
class Cli:
    """`reconcile` as a person calls it, for one server; what is not an option of the issue's call stands in the environment."""

    scope: Scope
    remote: Remote
    directory: Path
    env: Mapping[str, str]
    image: str

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def service(self) -> str:
        return f"{self.scope.name}/prod/web"

    def commit(self, *, well: bool = True, **web: object) -> str:
        """A commit with one service; if not `well`, its health check asks a port where nothing listens."""
        gate = QUICK if well else {**QUICK, "port": 81, "retries": 3}
        service = {"image": self.image, "port": 8080, "needs": {}, "health": gate, "drain": {"grace": "1s"}, **web}
        project = {"project": {"name": self.scope.name, "services": {"web": service}}}
        return self.remote.commit({f"projects/{self.scope.name}/prod.yaml": yaml.safe_dump(project)}, f"Commit {sorted(web)}")

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reconciler", *map(str, arguments)],
            cwd=ROOT,
            env=dict(self.env),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def once(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """The call of the issue, word for word."""
        own = ("--repo", self.remote.path, "--server", self.scope.server, "--state-dir", self.state)
        return self.run("--once", *own, *arguments)

    def looking(self, command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        own = ("--repo", self.remote.path, "--server", self.scope.server, "--state-dir", self.state)
        return self.run(command, *arguments, *own)

    def containers(self) -> dict[str, str]:
        """Names and ids of what runs."""
        return {str(c.name): str(c.id) for c in self.scope.containers()}


@pytest.fixture
def cli(scope: Scope, images: Images, git_remote: Remote, tmp_path: Path, free_port: Callable[[], int]) -> Cli:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
    env = {
        **clean,
        "RECONCILER_NGINX_IMAGE": images.nginx,
        "RECONCILER_EDGE_PORTS": str(free_port()),
        "RECONCILER_EDGE_ADDRESS": "127.0.0.1",
        "RECONCILER_EDGE_NAME": f"{scope.name}_nginx",
        "RECONCILER_HOST_NAME": f"{scope.name}_nginx_host",
        "RECONCILER_HOST_GENERATION_PORT": str(free_port()),
        "RECONCILER_NETWORK_POOL": f"10.{64 + zlib.crc32(scope.name.encode()) % 128}.0.0/16",
        "RECONCILER_LOCAL_DIR": str(tmp_path / "local"),
    }
    return Cli(scope, git_remote, tmp_path, env, images.app)


def test_once_converges_says_what_happened_and_a_second_run_does_nothing(cli: Cli) -> None:
    first = cli.commit(env={"COLOUR": "red"})
    ran = cli.once("--timeout", "60s")
    assert ran.returncode == 0, ran.stderr
    row = next(line for line in ran.stdout.splitlines() if line.startswith(cli.service))
    assert first[:7] in row and f"{cli.scope.server} primary" in row and "first deploy" in row
    assert "create" in ran.stderr and "first deploy" in ran.stderr
    before = cli.containers()
    again = cli.once("--json")
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["converged"] is True and found["exit_code"] == 0 and found["config"]["revision"] == first
    assert [(s["service"], s["live"], s["happened"]) for s in found["services"]] == [(cli.service, first, "unchanged")]
    assert cli.containers() == before


def test_a_refused_version_ends_with_3_and_the_old_one_stays_until_it_is_retried_or_mended(cli: Cli) -> None:
    first = cli.commit()
    assert cli.once().returncode == 0
    second = cli.commit(well=False, env={"BROKEN": "yes"})
    ran = cli.once("--json")
    assert ran.returncode == 3, ran.stderr
    (service,) = json.loads(ran.stdout)["services"]
    assert service["live"] == first and service["rejected"]["revision"] == second
    assert service["happened"] == f"{second[:7]} refused"
    assert cli.once("--quiet").returncode == 3
    # Asked to, it tries once more and is refused again.
    asked_for = cli.run("retry", "web", "--state-dir", cli.state)
    assert asked_for.returncode == 0, asked_for.stderr
    retried = cli.once()
    assert retried.returncode == 3 and "staging" in retried.stderr
    assert "staging" not in cli.once().stderr
    cli.commit(env={"BROKEN": "no"})
    assert cli.once().returncode == 0


def test_an_invalid_project_ends_with_1_and_does_not_stop_the_others(cli: Cli) -> None:
    cli.remote.commit({"projects/bad/prod.yaml": "project: {name: bad, services: {x: {image: y, prot: 1}}}\n"}, "Bad")
    sha = cli.commit()
    ran = cli.once("--json")
    assert ran.returncode == 1, ran.stderr
    found = json.loads(ran.stdout)
    assert [service["live"] for service in found["services"]] == [sha]
    assert any("projects/bad/prod.yaml:1:" in line and "prot" in line for line in found["invalid"])


def test_plan_and_diff_tell_the_change_and_write_nothing(cli: Cli) -> None:
    cli.commit(env={"COLOUR": "red"})
    assert cli.once().returncode == 0
    cli.commit(env={"COLOUR": "hidden-value"})
    before = (cli.containers(), cli.remote.branches(), contents(cli.state))
    planned = cli.looking("plan", "--json", "--detailed-exitcode")
    assert planned.returncode == 3, planned.stderr
    found = json.loads(planned.stdout)
    (service,) = found["services"]
    server = cli.scope.server
    assert (service["change"], service["before"], service["after"]) == ("toggle", [f"{server} primary"], [f"{server} secondary"])
    assert service["cause"].startswith("env COLOUR")
    assert any(a["verb"] == "start" and "web_secondary" in a["name"] for a in found["actions"])
    differs = cli.looking("diff", "--detailed-exitcode")
    assert differs.returncode == 3 and "env COLOUR" in differs.stdout and "hidden-value" not in differs.stdout
    dry = cli.once("--dry-run")
    assert dry.returncode == 0 and "toggle" in dry.stdout
    assert (cli.containers(), cli.remote.branches(), contents(cli.state)) == before
    # The very plan is what then happens.
    assert cli.once().returncode == 0
    assert cli.looking("plan", "--detailed-exitcode").returncode == 0
    assert "No difference" in cli.looking("diff").stdout


def test_a_work_tree_is_planned_without_any_settings_or_state(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.commit()
    assert cli.once().returncode == 0
    tree = cli.directory / "tree" / "projects" / cli.scope.name
    tree.mkdir(parents=True)
    shown = cli.remote.show("main", f"projects/{cli.scope.name}/prod.yaml")
    (tree / "prod.yaml").write_text(shown)
    nowhere = cli.directory / "nowhere"
    own = ("--server", cli.scope.server, "--state-dir", nowhere)
    same = cli.run("plan", cli.directory / "tree", *own, "--json")
    assert same.returncode == 0, same.stderr
    assert [(s["change"], s["before"]) for s in json.loads(same.stdout)["services"]] == [(None, [f"{cli.scope.server} primary"])]
    (tree / "prod.yaml").write_text(shown.replace("port: 8080", "port: 8080\n      env: {NEW: x}"))
    changed = cli.run("plan", cli.directory / "tree", *own, "--detailed-exitcode")
    assert changed.returncode == 3 and "toggle" in changed.stdout, changed.stderr
    assert not nowhere.exists()
    # The engine itself counts its calls to Docker.
    for name, value in cli.env.items():
        monkeypatch.setenv(name, value)
    given: dict[str, str | Path | None] = {"server": cli.scope.server, "state_dir": nowhere}
    with asked(Invocation(given=given), cli.directory / "tree") as found:
        assert found.writes == 0 and found.seen.observed.containers


def test_status_and_history_tell_the_same_on_the_server_and_from_anywhere(cli: Cli) -> None:
    sha = cli.commit()
    assert cli.once().returncode == 0
    here = json.loads(cli.run("status", "--state-dir", cli.state, "--json").stdout)
    there = json.loads(cli.run("status", "--repo", cli.remote.path, "--json").stdout)
    assert here.pop("known_from") != there.pop("known_from")
    assert here == there
    assert here["services"][0]["live"] == sha and here["members"][0]["current"] is True
    told = json.loads(cli.run("history", "--state-dir", cli.state, "--json").stdout)
    assert told[-1]["reasons"][0].startswith("cluster state created") and told[0]["config"] == sha


def test_doctor_finds_this_server_well_and_says_what_to_do_where_it_is_not(cli: Cli) -> None:
    cli.commit()
    well = cli.looking("doctor", "--json")
    found = {check["name"]: check for check in json.loads(well.stdout)}
    assert well.returncode == 0, well.stdout
    assert found["docker"]["level"] == "ok" and found["status branches"]["level"] == "ok"
    assert "nginx/1." in found["nginx image"]["found"]
    ill = cli.run(
        "doctor", "--repo", cli.remote.path, "--server", cli.scope.server, "--state-dir", cli.state, "--branch", "no", "--json"
    )
    failed = [check for check in json.loads(ill.stdout) if check["level"] == "fail"]
    assert ill.returncode == 2 and [check["name"] for check in failed] == ["repository"]
    assert "main" in failed[0]["found"] and failed[0]["todo"]
    assert cli.remote.branches().keys() == {"main"}
