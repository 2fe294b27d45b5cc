"""Progress on standard error: a line for what is done as it is done and, on a terminal, a spinner with what is waited for."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.status import Status
from rich.table import Table

from reconciler.commands.output import console, joined, text
from reconciler.model.effect import Effect
from reconciler.render.terminal import Tone
from reconciler.render.terminal_progress import effect_line


class Progress:
    """Lines come from several threads. `quiet`: nothing is written. `verbose`: every step, and how long it took."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self.said: list[str] = []
        self._quiet = quiet
        self._verbose = verbose
        self._begin = time.monotonic()
        self._err = console(error=True)
        self._status: Status | None = None
        self._waiting = ""
        self._last = ""
        self._begun: dict[int, float] = {}

    def __enter__(self) -> Progress:
        if not self._quiet and self._err.is_terminal:
            self._status = self._err.status("", spinner="line")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, line: str) -> None:
        """A reason: remembered for the summary, and shown."""
        self.said.append(line)
        self._write(line)

    def watch(self, when: str, effect: Effect) -> None:
        """Before and after each effect."""
        line = effect_line(effect, all_steps=self._verbose)
        if line is None:
            return
        if when == "before":
            self._begun[threading.get_ident()] = time.monotonic()
            if line != self._last or self._verbose:  # an application and its sidecar are stopped under one name
                self._write(f"  {line}", "dim")
            self._last = line
            self.wait(line)
        elif self._verbose:
            took = time.monotonic() - self._begun.pop(threading.get_ident(), time.monotonic())
            self._write(f"  {line}: {took:.2f} s", "dim")

    def step(self, line: str) -> None:
        """Something else that takes its time."""
        self._write(f"  {line}", "dim")

    def wait(self, what: str) -> None:
        """What the spinner says, on a terminal."""
        if self._status is not None and what != self._waiting:
            self._waiting = what
            self._status.update(text(what[: max(20, self._err.width - 4)], "dim"))

    def _write(self, line: str, tone: Tone = "plain") -> None:
        if self._quiet:
            return
        stamp = text(f"{time.monotonic() - self._begin:6.1f} s  ", "dim")
        if not self._err.is_terminal:
            self._err.print(joined(stamp, text(line, tone)), soft_wrap=True)
            return
        grid = Table.grid()
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(stamp, text(line, tone))
        self._err.print(grid)
