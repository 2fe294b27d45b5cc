"""Fixtures for every test, and the rule about Docker: a test that needs it fails without it, and is left out only on request."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests import lanes
from tests.lanes import Lanes
from tests.ports import free_ports
from tests.remote import Remote
from tests.waiting import eventually as _eventually

WITHOUT_DOCKER = "--without-docker"
TERMINAL = (
    *("COLUMNS", "LINES", "TERMINAL_WIDTH", "FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    "GITHUB_ACTIONS",  # a terminal, to Typer
    "PYTEST_ADDOPTS",  # meant for this run, not for those that tests start
)
"""Variables by which a program writes colours, or to a width, though nobody looks."""
# A machine that is busy elsewhere for two seconds is no failure of a pure function, and every run tries the same examples: one that
# fails is found by who looks for it (pytest --hypothesis-profile=hunt), and not by who has changed something else.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("hunt", settings.get_profile("any machine"), derandomize=False, max_examples=5_000)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(WITHOUT_DOCKER, action="store_true", help="leave out the tests that need a Docker Engine, and say so")


def pytest_configure(config: pytest.Config) -> None:
    # What the tests start has no terminal, whatever this machine says; a worker believes in one of 80 columns.
    for name in TERMINAL:
        os.environ.pop(name, None)


def pytest_report_header(config: pytest.Config) -> str | None:
    return _left_out(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if notice := _left_out(config):
        terminalreporter.section(notice)


@pytest.hookimpl(optionalhook=True, tryfirst=True)  # before the one that xdist chooses itself
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    """With several workers (`-n`): what shares something of the machine stays on one of them."""
    return Lanes(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lanes.check(items)
    if not config.getoption(WITHOUT_DOCKER):
        return
    left_out = [item for item in items if item.get_closest_marker("docker")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("docker")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Runs before a test's fixtures: says what to do once, instead of a connection error from each of them."""
    if item.get_closest_marker("docker") and (problem := docker_problem()):
        pytest.fail(problem, pytrace=False)


@functools.cache
def docker_problem() -> str | None:
    """What stands in the way of using Docker, and what to do; None when an Engine answers."""
    import docker  # not at the top: the unit tests need not wait for it
    import docker.errors

    try:
        client = docker.from_env(timeout=20)
        try:
            client.ping()
        finally:
            client.close()
    except docker.errors.DockerException as error:
        return (
            f"no Docker Engine answers ({error}).\n"
            "Debian, Ubuntu: `make docker` installs and starts one. Elsewhere: install Docker Engine 20.10 or newer and start it.\n"
            f"To leave these tests out: pytest {WITHOUT_DOCKER}, or make test WITHOUT_DOCKER=1."
        )
    return None


def _left_out(config: pytest.Config) -> str | None:
    return f"the tests that need Docker are LEFT OUT ({WITHOUT_DOCKER})" if config.getoption(WITHOUT_DOCKER) else None


@pytest.fixture
def git_remote(tmp_path: Path) -> Remote:
    """An empty bare repository that plays the Git host."""
    return Remote.create(tmp_path / "remote.git")


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """See `tests.ports`; until the end of the test."""
    with free_ports() as pick:
        yield pick


@pytest.fixture
def eventually() -> Callable[..., None]:
    """`eventually(condition, deadline_s, describe)`: see `tests.waiting`."""
    return _eventually
