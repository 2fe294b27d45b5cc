"""Commit messages of the status refs: a subject for people, trailers for programs (DESIGN section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.model.cluster import ClusterState
from reconciler.model.report import InstanceReport, Report

SUBJECT_MOST = 160


def cluster_message(server: str, reasons: Sequence[str], cluster: ClusterState) -> str:
    """The message of a commit on `status/cluster`: the first reason is the subject, the others stand below."""
    return _message(server, reasons or ("cluster state unchanged",), _trailers(server, cluster.config, cluster.generation))


def report_message(old: Report | None, new: Report) -> str:
    """The message of a commit on `status/<server>`: what became different since the last one."""
    changes = list(_changes(old, new)) or ["reports for the first time" if old is None else "conditions changed"]
    config = new.seen.config if new.seen is not None else None
    generation = new.seen.generation if new.seen is not None else None
    return _message(new.server, changes, _trailers(new.server, config, generation))


def _message(server: str, lines: Sequence[str], trailers: Iterable[str]) -> str:
    subject = printable(f"{server}: {lines[0]}")
    if len(subject) > SUBJECT_MOST:
        subject = subject[: SUBJECT_MOST - 1] + "…"
    rest = [f"- {printable(line)}" for line in lines[1:]]
    body = "\n".join(rest) + "\n\n" if rest else ""
    return f"{subject}\n\n{body}" + "\n".join(trailers) + "\n"


def _trailers(server: str, config: str | None, generation: int | None) -> Iterable[str]:
    if config is not None:
        yield f"Config-Revision: {config}"
    if generation is not None:
        yield f"Generation: {generation}"
    yield f"Server: {server}"


def _changes(old: Report | None, new: Report) -> Iterable[str]:
    before = {_place(entry): entry for entry in (old.instances if old is not None else ())}
    for entry in new.instances:
        was = before.pop(_place(entry), None)
        if was is None or (was.phase, was.spec, was.reason) != (entry.phase, entry.spec, entry.reason):
            yield _told(entry)
    for entry in before.values():
        yield f"{entry.service} {entry.slot} gone"
    known = set(old.conditions) if old is not None else set()
    for condition in new.conditions:
        if condition not in known and condition.type != "Ready":
            where = f"{condition.service}: " if condition.service else ""
            yield f"{where}{condition.reason} {condition.message}".strip()
    acknowledged = old.serving if old is not None else None
    if new.serving is not None and new.serving != acknowledged:
        took = f" after {new.serving.verified_ms:.0f} ms" if new.serving.verified_ms is not None else ""
        yield f"serves generation {new.serving.generation}{took}"


def _place(entry: InstanceReport) -> tuple[str, int, str]:
    return entry.service, entry.replica, entry.slot


def _told(entry: InstanceReport) -> str:
    replica = f" replica {entry.replica}" if entry.replica > 1 else ""
    words = f"{entry.service}{replica} {entry.phase} on {entry.slot}"
    if entry.after_s is not None:
        words += f", healthy after {entry.after_s:.1f} s"
    return words + (f": {entry.reason}" if entry.reason else "")


def printable(text: str) -> str:
    """One line without control characters: what people write in a config may not move a terminal's cursor (FAULTS 60)."""
    return "".join(ch if ch.isprintable() else "\ufffd" for ch in " ".join(text.split()))
