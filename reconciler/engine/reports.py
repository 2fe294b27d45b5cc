"""Other servers' reports as they were read from Git: garbage and newer schemas are noticed, never guessed at."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pydantic import ValidationError

from reconciler.engine.documents import Unreadable, parse
from reconciler.errors import ReconcilerError
from reconciler.model.report import Condition, Report

SCHEMA = 1
_REMEMBERED = 512
"""Reports whose text has been parsed: each poll brings everybody's, and few are new. It is most of the work of a poll otherwise."""


@lru_cache(maxsize=_REMEMBERED)
def read_report(server: str, data: bytes) -> Report | Condition:
    """One report, or what is wrong with it. A report that cannot be read blocks like a lost one: it excuses nobody."""
    try:
        document = parse(data)
    except Unreadable as error:
        return _unreadable(server, f"it {error}")
    if not isinstance(document, dict):
        return _unreadable(server, "it does not hold a report")
    schema = document.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        return _unreadable(server, f"schema {schema} is newer than {SCHEMA}, which this program knows: upgrade this server")
    try:
        report = Report.model_validate(document)
    except ValidationError as error:
        return _unreadable(server, f"{error.error_count()} fields are not as expected")
    if report.server != server:
        return _unreadable(server, f"it speaks of {report.server}")
    return report


def read_reports(raw: Mapping[str, bytes | ReconcilerError], own: str) -> tuple[Mapping[str, Report], tuple[Condition, ...]]:
    """All of them, and conditions for those that cannot be read. This server's own unreadable one is simply written anew."""
    reports, problems = {}, []
    for server, data in sorted(raw.items()):
        found = read_report(server, data) if isinstance(data, bytes) else _unreadable(server, str(data))
        if isinstance(found, Report):
            reports[server] = found
        elif server != own:
            problems.append(found)
    return reports, tuple(problems)


def _unreadable(server: str, why: str) -> Condition:
    return Condition(type="ReportReadable", status=False, reason="UnreadableReport", message=f"status/{server}: {why}")
