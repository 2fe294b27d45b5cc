"""Docker's own health state, and whether it can still be believed.

After a daemon's restart with live-restore its checks may have stopped while the state stayed "healthy" (FAULTS 8).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from reconciler.effects.docker_api import one_line

_DEFAULT_SECONDS: Final = 30.0
_SLACK: Final = 5.0


@dataclass(frozen=True)
class DockerHealth:
    """`ok` means healthy by a check that was made lately. `message` says what is wrong otherwise."""

    ok: bool
    message: str = ""


def docker_health(found: Mapping[str, Any] | None, now: float | None = None) -> DockerHealth:
    """From Docker's inspect. `now`: seconds since the epoch on this machine, whose clock also stamped the checks."""
    if found is None:
        return DockerHealth(False, "the container is gone")
    health = found["State"].get("Health")
    if health is None or health.get("Status") in (None, "", "none"):
        return DockerHealth(False, "the image has no HEALTHCHECK: give the service `health: {http: ...}` or another kind")
    checks = health.get("Log") or []
    if health["Status"] != "healthy" or not checks:
        output = one_line(str(checks[-1].get("Output", ""))) if checks else ""
        return DockerHealth(False, f"Docker says {health['Status']}" + (f": {output}" if output else ""))
    check = (found.get("Config") or {}).get("Healthcheck") or {}
    allowed = 2 * _seconds(check.get("Interval")) + _seconds(check.get("Timeout")) + _SLACK
    age = (time.time() if now is None else now) - _stamp(str(checks[-1].get("End", "")))
    if age > allowed:
        return DockerHealth(False, f"Docker says healthy, but its last check is {age:.0f} s old: its checks have stopped")
    return DockerHealth(True)


def _seconds(nanoseconds: int | None) -> float:
    return (nanoseconds or 0) / 1e9 or _DEFAULT_SECONDS


def _stamp(text: str) -> float:
    """RFC 3339 with nanoseconds, of which Python's reader takes six digits."""
    head, _, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        return datetime.fromisoformat(f"{head}.{digits[:6]:0<6}{rest[len(digits) :]}").timestamp()
    except ValueError:
        return float("-inf")
