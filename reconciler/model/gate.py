"""The health gate of one container as a state machine: one result after the other, until it is passed or failed for good."""

from __future__ import annotations

from typing import Final, Literal

from reconciler.model.base import Model
from reconciler.model.desired import Health
from reconciler.model.observed import Gate

CLOSED: Final = Gate(state="waiting")


class ProbeResult(Model):
    """What one look at the container gave.

    `ended` means that its process is gone and Docker will not start it again: nothing is left to wait for. A process that was
    replaced by a restart is an ordinary failure: it counts, and what it had shown before counts no more.
    """

    kind: Literal["success", "failure", "ended"]
    error: str = ""


STAYING_FAILURES: Final = 3
"""Failed probes in a row (fewer, if `retries` says so) after which what was healthy and has to stay so is not."""


def advance(gate: Gate, result: ProbeResult, now: float, health: Health, *, stays: bool = False) -> Gate:
    """The gate after one more result. `now`: seconds since the container was started, by a monotonic clock.

    Passed and failed are final; `stays`: passed is not, as it still has to stay healthy (a rolling rollout's soak). Passed takes
    `successes` in a row over at least `min_healthy_time`. Failed takes `retries` failures in a row after `start_period`; failures
    before that end a row of successes and are not counted.
    """
    if gate.state == "passed" and stays:
        return _staying(gate, result, now, health)
    if gate.state != "waiting":
        return gate
    if result.kind == "ended":
        return _failing(gate, result, now, gate.failures + 1, "failed")
    if result.kind == "failure":
        failures = gate.failures + 1 if now >= health.start_period else 0
        return _failing(gate, result, now, failures, "failed" if failures >= max(1, health.retries) else "waiting")
    since = now if gate.healthy_since is None else gate.healthy_since
    successes = gate.successes + 1
    passed = successes >= health.successes and now - since >= health.min_healthy_time
    return gate.model_copy(
        update={
            "state": "passed" if passed else "waiting",
            "after": now,
            "successes": successes,
            "failures": 0,
            "healthy_since": since,
            "error": None if passed else gate.error,
        }
    )


def _staying(gate: Gate, result: ProbeResult, now: float, health: Health) -> Gate:
    """It had passed: `after` stays what it was, unless it fails."""
    if result.kind == "success":
        return gate.model_copy(update={"failures": 0, "error": None})
    failures = gate.failures + 1
    if result.kind == "ended" or failures >= min(health.retries, STAYING_FAILURES):
        return _failing(gate, result, now, failures, "failed")
    return gate.model_copy(update={"failures": failures, "error": result.error or "the probe failed"})


def _failing(gate: Gate, result: ProbeResult, now: float, failures: int, state: Literal["waiting", "failed"]) -> Gate:
    return gate.model_copy(
        update={
            "state": state,
            "after": now,
            "successes": 0,
            "failures": failures,
            "healthy_since": None,
            "error": result.error or "the probe failed",
        }
    )
