"""`reconcile retry SERVICE`: ask this server's daemon, or the next `--once`, to try a refused version again."""

from __future__ import annotations

from reconciler.commands import codes
from reconciler.commands.invocation import Invocation
from reconciler.commands.output import show, show_json
from reconciler.commands.reading import known_service
from reconciler.effects.journal import Journal
from reconciler.engine.requests import ask, read_copy
from reconciler.errors import Invalid, Problem
from reconciler.plan.step import retriable
from reconciler.render.terminal import Page


def retry(invocation: Invocation, asked: str) -> int:
    """Write the request durably. Raises Invalid when there is nothing to try again, Transient when it cannot be written."""
    settings = invocation.settings()
    cluster = read_copy(settings.state_dir)
    if cluster is None:
        message = f"{settings.state_dir} holds no cluster state: run this on a server of the cluster, with its --state-dir"
        raise Invalid([Problem("retry", 0, 0, message)])
    service = known_service(cluster, asked)
    assert service is not None
    state = cluster.services[service]
    rollout = state.rollout
    if rollout is None or not retriable(state):
        now = f"its rollout {rollout.id} is {rollout.phase}" if rollout is not None else "it has had no rollout"
        raise Invalid([Problem(service, 0, 0, f"nothing to try again: {now}; only a refused or aborted rollout can be retried")])
    ask(Journal(settings.state_dir), cluster, [service])
    if invocation.json:
        show_json({"service": service, "rollout": rollout.id, "revision": rollout.revision})
    else:
        text = (
            f"{service}: {rollout.revision[:7]} will be tried again, by the daemon within seconds or by the next reconcile --once."
        )
        show(Page(summary=text, tone="good"))
    return codes.CONVERGED
