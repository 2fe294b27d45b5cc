"""Faults on request, for tests: the process records its steps, and kills itself before or after one of them.

A step is whatever leaves a trace outside: each effect, each write to the journal, each commit and push, and the parts of an nginx
switch. Without the two variables (see CONTRIBUTING) nothing here takes part in anything.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconciler.effects.journal import Journal
from reconciler.engine.performer import Watch
from reconciler.engine.ports import Publication, Published
from reconciler.engine.repository import Git, Repository
from reconciler.errors import Invalid, Problem
from reconciler.model.effect import Connect, Create, Effect, Remove, Restore, Signal, Start, Switch, Unpause

KILL_AT = "RECONCILER_KILL_AT"
RECORD = "RECONCILER_RECORD_STEPS"
"""A file that gets one line per step: `before 7 create shop_prod_web`."""


class Faults:
    """Counts the steps of this process, befores and afters each by themselves, as steps may overlap.

    kill_at: ("before" or "after", which of them: its number, or a pattern for what it says).
    """

    def __init__(self, kill_at: tuple[str, int | re.Pattern[str]] | None, record: Path | None) -> None:
        self._kill_at = kill_at
        self._record = record
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def step(self, when: str, what: str) -> None:
        """`when` is "before" or "after". Does not return from the step that it is to die at."""
        with self._lock:
            self._counts[when] += 1
            if self._record is not None:
                with self._record.open("a") as file:
                    file.write(f"{when} {self._counts[when]} {what}\n")
            if self._is_the_one(when, what):
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()

    def _is_the_one(self, when: str, what: str) -> bool:
        if self._kill_at is None or self._kill_at[0] != when:
            return False
        which = self._kill_at[1]
        return self._counts[when] == which if isinstance(which, int) else which.fullmatch(what) is not None

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        """One step."""
        self.step("before", what)
        yield
        self.step("after", what)

    def watch(self, told: Watch) -> Watch:
        """Effects as steps; `told` hears of them too."""

        def watch(when: str, effect: Effect) -> None:
            told(when, effect)
            self.step(when, f"{effect.kind} {_subject(effect)}")

        return watch


class StepwiseJournal(Journal):
    """A journal whose writes are steps."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        super().__init__(directory)
        self._faults = faults

    def write(self, name: str, data: bytes) -> None:
        with self._faults.around(f"journal {name}"):
            super().write(name, data)


class StepwiseRepository(Repository):
    """A repository whose publications, commit and push, are steps."""

    def __init__(self, git: Git, server: str, faults: Faults) -> None:
        super().__init__(git, server)
        self._faults = faults

    def publish(self, publications: Sequence[Publication], when: int) -> Published:
        with self._faults.around("publish " + " ".join(publication.ref for publication in publications)):
            return super().publish(publications, when)


def requested(environment: Mapping[str, str]) -> Faults | None:
    """What the environment asks for; None when it asks for nothing. Raises Invalid."""
    kill, record = environment.get(KILL_AT), environment.get(RECORD)
    if not kill and not record:
        return None
    return Faults(_point(kill) if kill else None, Path(record) if record else None)


def _point(text: str) -> tuple[str, int | re.Pattern[str]]:
    match = re.fullmatch(r"(before|after):(?:([1-9][0-9]{0,5})|~(.+))", text)
    try:
        if match is not None:
            return match[1], int(match[2]) if match[2] else re.compile(match[3])
    except re.error:
        pass
    expected = "before:N or after:N, such as after:7, or after:~PATTERN, such as after:~rename .*"
    raise Invalid([Problem(KILL_AT, 0, 0, f"is {text!r}; expected {expected}")])


def _subject(effect: Effect) -> str:
    """The container, network or nginxes that an effect is about."""
    match effect:
        case Create():
            return effect.plan.name
        case Switch():
            return " ".join(target.name for target in effect.targets)
        case Start() | Unpause() | Signal() | Remove() | Restore():
            return effect.container
        case _:
            return effect.name if not isinstance(effect, Connect) else f"{effect.container} {effect.network}"
