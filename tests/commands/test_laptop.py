"""Whoever can `git clone` the repository can ask for its status, by http, ssh or path, with nothing but its address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands.clustered import Clustered
from tests.commands.told import Told, run
from tests.effects.git_remotes import HttpRemote, SshRemote
from tests.plan.build import service
from tests.remote import Remote

TOKEN = "not-a-real-token"


@pytest.fixture
def config(git_remote: Remote) -> Remote:
    """A settled cluster of two servers."""
    made = Clustered(git_remote, ("a", "b"))
    made.commit(service("web", servers=("a", "b")), subject="First deploy")
    made.settle()
    return git_remote


@pytest.fixture
def http(config: Remote) -> Iterator[HttpRemote]:
    with HttpRemote(config.path.parent, TOKEN) as remote:
        yield remote


@pytest.fixture
def ssh(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[SshRemote]:
    with SshRemote(tmp_path / "ssh", free_port()) as remote:
        yield remote


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


def glance(url: str, home: Path, **env: str) -> Told:
    return run("status", "--cluster", "--repo", url, env={"HOME": str(home), "COLUMNS": "140", "GIT_CONFIG_NOSYSTEM": "1", **env})


def in_order(told: Told) -> bool:
    assert told.exit_code == 0, told.output
    return "2 servers: all in order" in told.stdout


def test_a_path_and_a_file_url_are_enough(config: Remote, home: Path) -> None:
    assert in_order(glance(str(config.path), home))
    assert in_order(glance(config.url, home))


def test_over_http_the_persons_own_credential_helper_is_asked(http: HttpRemote, home: Path) -> None:
    url = f"http://127.0.0.1:{http.port}/remote.git"
    refused = glance(url, home)
    assert refused.exit_code == 2 and "no valid credential" in refused.stderr
    helper = f'!f() {{ echo username=me; echo "password={TOKEN}"; }}; f'
    (home / ".gitconfig").write_text(f"[credential]\n\thelper = {quoted(helper)}\n")
    assert in_order(glance(url, home))
    assert TOKEN not in "\n".join(http.seen_commands)


def test_a_token_from_the_environment_works_without_any_git_configuration(http: HttpRemote, home: Path) -> None:
    url = f"http://127.0.0.1:{http.port}/remote.git"
    assert in_order(glance(url, home, RECONCILER_TOKEN_ENV="TOKEN_OF_CI", TOKEN_OF_CI=TOKEN))


def test_over_ssh_the_persons_own_ssh_configuration_counts(config: Remote, ssh: SshRemote, home: Path, tmp_path: Path) -> None:
    hosts = ssh.known_hosts(tmp_path / "known_hosts")
    own = tmp_path / "ssh_config"
    own.write_text(
        f"Host work\n  HostName 127.0.0.1\n  Port {ssh.port}\n  User root\n  IdentityFile {ssh.key}\n  UserKnownHostsFile {hosts}\n"
    )
    url = f"root@work:{config.path}"
    assert glance(url, home).exit_code == 2
    (home / ".gitconfig").write_text(f"[core]\n\tsshCommand = ssh -F {own}\n")
    assert in_order(glance(url, home))


def test_history_reads_several_servers_decisions_from_a_laptop(config: Remote, home: Path) -> None:
    told = run("history", "web", "--repo", config.path, env={"HOME": str(home), "COLUMNS": "140"})
    assert told.exit_code == 0, told.output
    assert "live on a primary, b primary" in told.stdout and "by a" in told.stdout


def quoted(text: str) -> str:
    """A value for a git configuration file."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
