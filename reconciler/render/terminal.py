"""What commands show, as plain data: tables, notes, pages. How it is coloured and folded is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["plain", "good", "warn", "bad", "dim", "strong"]


@dataclass(frozen=True)
class Cell:
    """One field of a table."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Table:
    """Columns and rows of the same length. The last column folds first when the terminal is narrow."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Note:
    """A paragraph about one thing: what it is about, what is said, and lines that stand below it as they are."""

    subject: str
    text: str
    tone: Tone = "plain"
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """What a command shows at its end, from top to bottom."""

    title: str = ""
    table: Table | None = None
    notes: tuple[Note, ...] = ()
    summary: str = ""
    tone: Tone = "plain"


def cells(*texts: str) -> tuple[Cell, ...]:
    """A row without tones."""
    return tuple(Cell(text) for text in texts)


def counted(count: int, noun: str) -> str:
    """`1 service`, `2 services`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Sequence[str], most: int = 4) -> str:
    """`a, b, c and 3 more`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
