"""Docker's health state is believed only while its checks go on (FAULTS 8)."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.effects.docker_health import docker_health

CHECKED = 1_700_000_000.5  # seconds since the epoch of the last check below


def inspected(status: str, *, interval_s: float = 2.0, timeout_s: float = 1.0, output: str = "") -> dict[str, Any]:
    check = {"Interval": int(interval_s * 1e9), "Timeout": int(timeout_s * 1e9)}
    log = [{"End": "2023-11-14T22:13:20.500000123Z", "ExitCode": 0, "Output": output}]
    return {"State": {"Health": {"Status": status, "Log": log}}, "Config": {"Healthcheck": check}}


def test_healthy_by_a_late_check_counts() -> None:
    assert docker_health(inspected("healthy"), now=CHECKED + 3).ok


def test_healthy_by_a_check_long_ago_does_not_count() -> None:
    """FAULTS 8: after a restart with live-restore the checks had stopped and the state stayed healthy."""
    stale = docker_health(inspected("healthy"), now=CHECKED + 11)
    assert not stale.ok and "11 s old" in stale.message


def test_an_interval_that_is_not_given_is_dockers_thirty_seconds() -> None:
    assert docker_health(inspected("healthy", interval_s=0, timeout_s=0), now=CHECKED + 90).ok
    assert not docker_health(inspected("healthy", interval_s=0, timeout_s=0), now=CHECKED + 100).ok


@pytest.mark.parametrize("status", ["starting", "unhealthy"])
def test_any_other_state_does_not_count_and_tells_the_output(status: str) -> None:
    state = docker_health(inspected(status, output="curl: \x1b[31mrefused\n"), now=CHECKED)
    assert (state.ok, state.message) == (False, f"Docker says {status}: curl: refused")


def test_a_container_without_checks_or_gone_says_so() -> None:
    assert "HEALTHCHECK" in docker_health({"State": {}}).message
    assert docker_health(None).message == "the container is gone"


def test_zone_offsets_are_understood() -> None:
    found = inspected("healthy")
    found["State"]["Health"]["Log"][0]["End"] = "2023-11-15T00:13:20.5+02:00"
    assert docker_health(found, now=CHECKED + 3).ok
    assert not docker_health(found, now=CHECKED + 30).ok
