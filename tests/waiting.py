"""Waiting in tests: for a condition, with a deadline, never for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
POLL_SECONDS = 0.02


def eventually(
    condition: Callable[[], Value], deadline_s: float = 30.0, describe: str | Callable[[], str] = "the condition"
) -> Value:
    """Asks `condition` until its answer is true, and returns that answer.

    An exception counts as "not yet". Raises AssertionError after `deadline_s` seconds, with `describe` (a text, or a function
    that tells what was found instead) and the last answer or exception.
    """
    end = time.monotonic() + deadline_s
    pause = threading.Event()
    while True:
        last: object
        try:
            last = value = condition()
            if value:
                return value
        except Exception as error:
            last = error
        if time.monotonic() >= end:
            text = describe() if callable(describe) else describe
            raise AssertionError(f"not within {deadline_s:g} s: {text} (last: {last!r})")
        pause.wait(POLL_SECONDS)
