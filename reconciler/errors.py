"""Errors that carry their policy: when to try again, who has to act, what exactly is wrong.

One place (`engine`) turns them into a log line, a condition in the status and a delay. A message names the object, what was
found, what was expected and what to do. Nothing secret may be put into one.
"""

from __future__ import annotations

from dataclasses import dataclass


class ReconcilerError(Exception):
    """Base of every error this program raises on purpose."""


class Transient(ReconcilerError):
    """Something that may pass by itself: a network, a registry, a busy daemon.

    `retry_after`: seconds until another try is sensible, or None to leave it to the caller's back-off.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Stalled(ReconcilerError):
    """Something that only a person or a commit can change. The message says what to do.

    `reason` is one CamelCase word for a condition in the status, such as `ForeignContainer`.
    """

    def __init__(self, message: str, *, reason: str = "Stalled") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in one place of a file. `line` and `column` count from 1; 0 means the file as a whole."""

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return f"{place}: {self.message}"


class Invalid(ReconcilerError):
    """Bad input: every problem that was found, in the order of the files."""

    def __init__(self, problems: tuple[Problem, ...] | list[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))
