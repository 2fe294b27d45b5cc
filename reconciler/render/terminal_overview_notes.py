"""The sentences below the tables of `status --cluster`: what is not in order, by name, and whom it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.model.overview import Behind, Moment, Overview, ServerGlance, ServiceGlance
from reconciler.render.terminal import Note
from reconciler.render.terminal_services import LOG_LINES


def whole_notes(found: Overview) -> Iterable[Note]:
    """Of the cluster as a whole."""
    for problem in found.problems:
        yield Note("not in order", problem, "bad")
    tip = found.tip
    if tip is not None and tip.ahead is None and found.config is not None:
        text = f"the config branch is at {tip.revision[:7]}, which does not contain {found.config[:7]}: it was rewritten"
        yield Note("config", text, "warn")
    elif tip is not None and tip.ahead:
        subject = f' "{found.tip_subject}"' if found.tip_subject else ""
        newer = "1 newer commit is" if tip.ahead == 1 else f"{tip.ahead} newer commits are"
        text = f"{newer} not followed yet; the tip is {tip.revision[:7]}{subject}, about {ago(found.tip_seconds)} old"
        yield Note("config", text, "warn")
    if found.brake:
        yield Note("brake", found.brake, "bad")


def glance_notes(services: Sequence[ServiceGlance], servers: Sequence[ServerGlance]) -> Iterable[Note]:
    """Of these services, then of these servers."""
    for service in services:
        yield from _service_notes(service)
    for server in servers:
        yield from _server_notes(server)


def ago(seconds: int | None) -> str:
    """`42 s`, `12 min`, `5 h`, `4 days`."""
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 2 * 3600:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h"
    return f"{seconds // 86400} days"


def _service_notes(service: ServiceGlance) -> Iterable[Note]:
    rollout = service.rollout
    if rollout is not None:
        last = f", last step about {ago(rollout.last_seconds)} ago" if rollout.last_seconds is not None else ""
        cause = f"{rollout.strategy} to {rollout.revision[:7]}{last}: {rollout.cause}"
        yield Note(service.service, f"{rollout.phase}, {'; '.join(rollout.waits_for)}", "warn", (cause,))
    if service.refused is not None:
        refused = service.refused
        words = f"{refused.revision[:7]}{_quoted(refused.subject)} was refused: {refused.reason}"
        again = f"To try it again as it is, on one of its servers: reconcile retry {service.service}"
        yield Note(service.service, f"{words}. {again}", "bad", refused.log[-LOG_LINES:])
    elif service.held is not None:
        yield Note(service.service, f"held back: {service.held}", "warn")
    if service.words:
        yield Note(service.service, "; ".join(service.words), "warn")


def _server_notes(server: ServerGlance) -> Iterable[Note]:
    told = [*([_behind(server.behind)] if server.behind is not None else []), *server.words]
    if told:
        yield Note(server.server, told[0], "warn", (*told[1:], *server.remarks))
    elif server.remarks:
        yield Note(server.server, "; ".join(server.remarks))


def _behind(behind: Behind) -> str:
    """What it lacks, since which commit."""
    last = f"the last was {behind.last}" if behind.last is not None else "none of this epoch"
    what = "has seen it and does not serve" if behind.seen else "has not seen"
    since = f", which it could have since {_at(behind.since)}" if behind.since is not None else ""
    return f"{what} generation {behind.current} ({last}){since}"


def _at(moment: Moment) -> str:
    return f"{moment.iso[:19].replace('T', ' ')} ({moment.commit[:7]} by {moment.by})"


def _quoted(subject: str) -> str:
    return f' "{subject}"' if subject else ""
