"""One step of one service: what it may look at, what comes of it, and the endings that every phase shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.cluster import ClusterState, Rollout, ServiceState
from reconciler.model.desired import Desired
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Elapsed
from reconciler.model.report import Report
from reconciler.plan.votes import Tally

SIDECAR_STUCK = "SidecarStuck"
"""The reason of a condition in a report: a sidecar cannot reload, so that the service is replaced on that server."""
SIDECAR_CAUSE = "a sidecar cannot reload"
"""How the cause of such a rollout begins."""


ATTEMPTS = 4
"""So often a version may end as if the machine had been stopped; then it is the version."""


@dataclass(frozen=True)
class Context:
    """What every step may look at. `generation` is the one that the decision being made will carry if it changes routes."""

    desired: Desired
    cluster: ClusterState
    reports: Mapping[str, Report]
    elapsed: Elapsed
    generation: int

    def seen(self, server: str, generation: int | None) -> bool:
        """Whether the server wrote its report in knowledge of `generation`; before that, it speaks of an earlier state."""
        report = self.reports.get(server)
        if report is None or report.seen is None or report.seen.epoch != self.cluster.epoch:
            return False
        return report.seen.generation >= (generation or 0)

    def retried(self, key: ServiceKey, rollout: Rollout | None) -> bool:
        """Whether somebody asked to try this service again after this very rollout; a request is good for one attempt."""
        if rollout is None:
            return False
        wish = retry_wish(key, rollout)
        return any(wish in report.retry for report in self.reports.values())


@dataclass(frozen=True)
class Step:
    """The service's next state (None: forgotten), whether nginx configurations may differ from before, and why."""

    state: ServiceState | None
    bump: bool = False
    reasons: tuple[str, ...] = ()


def retry_wish(key: ServiceKey | str, rollout: Rollout) -> str:
    """What a report's `retry` holds when a person asks to try the service again: `key@rollout`, so that it counts once."""
    return f"{key}@{rollout.id}"


def retriable(state: ServiceState) -> bool:
    """Whether there is something to try again: a rollout that ended early, or a version refused before what happened since."""
    rollout = state.rollout
    return rollout is not None and (rollout.phase == "aborted" or (rollout.phase == "done" and state.rejected is not None))


def held(state: ServiceState, why: str | None) -> ServiceState:
    """The state with the reason why what is live is not what is desired; None when nothing holds it any more."""
    return state if state.held == why else state.model_copy(update={"held": why})


def waits(state: ServiceState, rollout: Rollout, why: str | None) -> Step:
    """Nothing to do but to say what is waited for."""
    if why == rollout.reason:
        return Step(state)
    new = state.model_copy(update={"rollout": rollout.model_copy(update={"reason": why})})
    return Step(new, reasons=(why or f"{rollout.phase} goes on",))


def abort(state: ServiceState, rollout: Rollout, why: str, *, again: bool = False) -> Step:
    """Forget the staged instances; the live ones never noticed. `again`: the cause may pass, so count it for the back-off."""
    aborted = rollout.model_copy(update={"phase": "aborted", "reason": why, "replacing": None, "batch": ()})
    backends = tuple(b for b in state.backends if b.role != "staged")
    retries = state.retries + 1 if again else 0
    new = state.model_copy(update={"rollout": aborted, "backends": backends, "retries": retries})
    return Step(new, reasons=(f"aborted: {why}",))


def waited_for(votes: Tally) -> str | None:
    """What the servers say they wait for, by name."""
    told = "; ".join(f"{b.server}: {entry.reason}" for b, entry in votes.waiting if entry is not None and entry.reason)
    return f"waiting for {told}" if told else None
