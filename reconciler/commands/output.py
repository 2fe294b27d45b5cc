"""Writes pages to the terminal: colours only there, values never taken for markup, nothing that could move a cursor."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from reconciler.errors import Invalid, ReconcilerError
from reconciler.model.printable import printable
from reconciler.render.terminal import Cell, Note, Page, Table, Tone

STYLES: dict[Tone, str] = {
    "plain": "",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "dim": "dim",
    "strong": "bold",
}
PIPED_WIDTH = 200


def console(*, error: bool = False) -> Console:
    """A console on standard output or standard error. What is piped is not folded at 80 columns, but at $COLUMNS or 200."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(stderr=error, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def clear() -> None:
    """An empty screen, on a terminal."""
    console().clear()


def text(value: str, tone: Tone = "plain") -> Text:
    """Safe text: control characters are made visible, brackets are only brackets."""
    return Text(printable(value), style=STYLES[tone])


def joined(*parts: Text) -> Text:
    """Texts in a row, each in its own style."""
    return Text.assemble(*parts)


def show(page: Page) -> None:
    """Write a page to standard output."""
    out = console()
    with out.capture() as captured:
        if page.title:
            out.print(text(page.title, "strong"))
            if page.table is not None:
                out.print()
        if page.table is not None and page.table.rows:
            out.print(_table(page.table, out.width))
        for note in page.notes:
            _note(out, note)
        if page.summary:
            if page.table is not None or page.notes:
                out.print()
            out.print(text(page.summary, page.tone))
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def show_json(document: object) -> None:
    """One JSON document on standard output. Escapes everything that is not ASCII, so no terminal can be moved by it."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True) + "\n")


def show_error(error: Exception) -> None:
    """An error on standard error: `error: ...`, or each problem of an Invalid at its place."""
    err = console(error=True)
    if isinstance(error, Invalid):
        for problem in error.problems:
            _line(err, str(problem))
        return
    what = str(error) if isinstance(error, ReconcilerError) else f"{type(error).__name__}: {error}"
    err.print(joined(text("error: ", "bad"), text(" ".join(what.split()))), soft_wrap=not err.is_terminal)


def problems(lines: Iterable[str]) -> None:
    """Lines for editors and people: one each, never folded."""
    out = console()
    for line in lines:
        _line(out, line)


def warn(message: str) -> None:
    """A remark on standard error."""
    err = console(error=True)
    err.print(joined(text("note: ", "warn"), text(message)), soft_wrap=not err.is_terminal)


def _line(where: Console, line: str) -> None:
    where.print(text(line), soft_wrap=True)


def _table(table: Table, width: int) -> RichTable:
    rich = RichTable(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style=STYLES["dim"], pad_edge=False)
    last = len(table.columns) - 1
    for index, name in enumerate(table.columns):
        longest = max((len(row[index].text) for row in table.rows), default=0)
        keep = index < last and longest <= max(12, width // 3)
        rich.add_column(Text(name.upper()), no_wrap=keep, overflow="fold", ratio=None, min_width=min(longest, 12) if keep else 8)
    for row in table.rows:
        rich.add_row(*(_cell(cell) for cell in row))
    return rich


def _cell(cell: Cell) -> Text:
    return text(cell.text, cell.tone)


def _note(out: Console, note: Note) -> None:
    out.print()
    head = text(note.subject, note.tone if note.tone != "plain" else "strong")
    out.print(joined(head, text(f": {note.text}")) if note.text else head)
    for line in note.lines:
        out.print(Padding(text(line, "dim"), (0, 0, 0, 2)))
