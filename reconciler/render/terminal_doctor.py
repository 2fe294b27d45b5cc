"""Checks of a server, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reconciler.render.terminal import Cell, Note, Page, Table, Tone, counted

Level = Literal["ok", "warn", "fail"]
_TONES: dict[Level, Tone] = {"ok": "good", "warn": "warn", "fail": "bad"}

_COLUMNS = ("", "check", "found")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found and, unless it is well, what to do."""

    name: str
    level: Level
    found: str
    todo: str = ""


def doctor_page(checks: Sequence[Check]) -> Page:
    """Every check in a row, then what to do."""
    rows = tuple((Cell(check.level, _TONES[check.level]), Cell(check.name, "strong"), Cell(check.found)) for check in checks)
    notes = tuple(Note(check.name, check.todo, _TONES[check.level]) for check in checks if check.todo and check.level != "ok")
    failed = sum(check.level == "fail" for check in checks)
    warned = sum(check.level == "warn" for check in checks)
    if failed:
        return Page("", Table(_COLUMNS, rows), notes, f"{counted(failed, 'check')} failed.", "bad")
    if warned:
        summary = f"Everything needed is there; {counted(warned, 'recommendation')}."
        return Page("", Table(_COLUMNS, rows), notes, summary, "warn")
    return Page("", Table(_COLUMNS, rows), notes, "Everything is as it should be.", "good")
