"""Which tests run one after the other when `make test` runs two at a time: those that share something of this machine.

A lane is a set of tests of which one worker takes all, in their order. Everything else goes to whichever worker is free.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

LANES = {
    # They start daemons of their own, which is hard work for the machine: one at a time.
    "tests/cluster/": "Docker Engines of their own",
    "tests/contract/test_docker_restart_contract.py": "Docker Engines of their own",
    "tests/integration/test_reboot.py": "Docker Engines of their own",
    "tests/integration/test_daemon.py::test_docker_gone_and_back_": "Docker Engines of their own",
    "tests/integration/": "the machine's Docker Engine",
    "tests/contract/test_docker_contract.py": "the machine's Docker Engine",
    "tests/bench/": "the whole machine",
}
"""Beginnings of test ids, the first that fits counts, and what is shared."""


def lane(nodeid: str) -> str | None:
    """The lane of a test; None when it may run beside any other."""
    return next((shared for beginning, shared in LANES.items() if nodeid.startswith(beginning)), None)


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    """Gives whole lanes to workers, the longest first, and then one test at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return lane(nodeid) or nodeid


def check(items: list[pytest.Item]) -> None:
    """Raises UsageError for a test that needs Docker and is in no lane: beside others it would fail now and then."""
    stray = sorted(
        {item.nodeid.split("::")[0] for item in items if item.get_closest_marker("docker") and lane(item.nodeid) is None}
    )
    if stray:
        raise pytest.UsageError(f"tests that need Docker share an Engine: give {', '.join(stray)} a lane in tests/lanes.py")
