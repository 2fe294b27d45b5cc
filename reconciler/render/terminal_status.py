"""The cluster at a glance: its members and what each has acknowledged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.model.cluster import ClusterState
from reconciler.model.report import Condition, Report
from reconciler.model.revision import CommitInfo
from reconciler.render.terminal import Cell, Note, Table, Tone

_TRAILERS = ("Config-Revision: ", "Generation: ", "Server: ")


@dataclass(frozen=True)
class MemberView:
    """One member. `serves`: the generation that it acknowledged last, in the current epoch; `ready`: its own word."""

    server: str
    reported: bool
    serves: int | None
    current: bool
    ready: bool
    program: str | None


@dataclass(frozen=True)
class DecisionView:
    """One commit on status/cluster."""

    when: str
    server: str
    generation: str
    config: str
    reasons: tuple[str, ...]


def members(cluster: ClusterState, reports: Mapping[str, Report]) -> tuple[MemberView, ...]:
    """Every member of the decision, and who else reports."""
    return tuple(_member(name, cluster, reports.get(name)) for name in sorted({*cluster.members, *reports}))


def member_table(cluster: ClusterState, found: Iterable[MemberView]) -> Table:
    """One row per server."""
    rows = []
    for view in found:
        serves = f"generation {view.serves}" if view.serves is not None else "nothing yet"
        says = (
            Cell("no report", "warn") if not view.reported else Cell("ready", "good") if view.ready else Cell("not ready", "warn")
        )
        member = Cell("member") if view.server in cluster.members else Cell("not a member", "warn")
        rows.append((Cell(view.server, "strong"), member, Cell(serves, "plain" if view.current else "warn"), says))
    return Table(("server", "part", "serves", "says"), tuple(rows))


def member_notes(cluster: ClusterState, reports: Mapping[str, Report], service: str | None) -> tuple[Note, ...]:
    """What the servers say of themselves and of instances that wait or failed."""
    notes: list[Note] = []
    for name, report in sorted(reports.items()):
        for condition in report.conditions:
            if _speaks_of(condition, service):
                tone: Tone = "warn" if condition.status else "bad"
                about = f"{name}, {condition.service}" if condition.service else name
                notes.append(Note(about, f"{condition.reason}: {condition.message}", tone))
        for entry in report.instances:
            if entry.phase in ("failed", "waiting", "stalled") and service in (None, entry.service):
                text = f"{entry.slot} is {entry.phase}" + (f": {entry.reason}" if entry.reason else "")
                notes.append(Note(f"{name}, {entry.service}", text, "bad" if entry.phase == "failed" else "warn", entry.log[-8:]))
    if cluster.brake and service is None:
        notes.append(Note("brake", cluster.brake, "bad"))
    return tuple(notes)


def decision(commit: CommitInfo) -> DecisionView:
    """A commit's message, taken apart again."""
    trailers: dict[str, str] = {}
    reasons: list[str] = []
    lines = [line.strip() for line in commit.message.splitlines() if line.strip()]
    for line in lines:
        trailer = next((name for name in _TRAILERS if line.startswith(name)), None)
        if trailer is not None:
            trailers[trailer] = line.removeprefix(trailer)
        else:
            reasons.append(line.removeprefix("- "))
    server = trailers.get("Server: ", commit.author_name)
    if reasons:
        reasons[0] = reasons[0].removeprefix(f"{server}: ")
    return DecisionView(
        when=commit.when_iso,
        server=server,
        generation=trailers.get("Generation: ", ""),
        config=trailers.get("Config-Revision: ", ""),
        reasons=tuple(reasons),
    )


def history_notes(found: Iterable[DecisionView], service: str | None) -> tuple[Note, ...]:
    """One paragraph per decision, in the order given; of one service, only its reasons."""
    return tuple(
        Note(
            f"{view.when[:19].replace('T', ' ')}  {view.config[:7]}  generation {view.generation}, by {view.server}",
            "",
            "strong",
            _of(view, service),
        )
        for view in found
    )


def about(view: DecisionView, service: str | None) -> bool:
    """Whether a decision speaks of the service."""
    return bool(_of(view, service))


def _of(view: DecisionView, service: str | None) -> tuple[str, ...]:
    return tuple(reason for reason in view.reasons if service is None or reason.startswith(f"{service} "))


def _member(name: str, cluster: ClusterState, report: Report | None) -> MemberView:
    serving = report.serving if report is not None else None
    serves = serving.generation if serving is not None and serving.epoch == cluster.epoch else None
    ready = report is not None and any(c.type == "Ready" and c.status for c in report.conditions)
    program = report.program if report is not None else None
    return MemberView(name, report is not None, serves, serves == cluster.generation, ready, program)


def _speaks_of(condition: Condition, service: str | None) -> bool:
    if condition.type == "Ready" or condition.type == "Brake":
        return False
    return service is None or condition.service in (service, service.rpartition("/")[0])
