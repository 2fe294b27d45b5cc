"""What the YAML and the JSON reader share: values, places, limits, and the record of one file while it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.errors import Invalid, Problem
from reconciler.model.printable import printable

Path = tuple[str | int, ...]
Place = tuple[int, int]  # line and column, from 1
Scalar = str | int | float | bool | None
Value = Scalar | Mapping[str, "Value"] | tuple["Value", ...]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Limits:
    """What a file may have at most. `size` and `scalar` in bytes and characters, `depth` in nested lists and mappings."""

    size: int = 256 * 1024
    nodes: int = 20_000
    depth: int = 32
    scalar: int = 32 * 1024


LIMITS = Limits()


class Decimal(float):
    """A number with a decimal point that remembers how it was written: `1.10` is not `1.1` in a version or a variable."""

    text: str

    def __new__(cls, text: str) -> Decimal:
        """`text` is the number as written in the file."""
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True)
class Document:
    """One file, read. `problems` are faults that did not hinder reading on, such as duplicate keys."""

    path: str
    value: Value
    keys: Mapping[Path, Place]
    values: Mapping[Path, Place]
    problems: tuple[Problem, ...] = ()

    def place(self, location: Path) -> Place:
        """The key at `location`, else the value there; elements that the file does not have (short forms) are passed over."""
        known: Path = ()
        for element in location:
            if (*known, element) in self.values:
                known = (*known, element)
        return self.keys.get(known) or self.values.get(known) or (0, 0)

    def problem(self, location: Path, message: str) -> Problem:
        """A problem at the key `location`."""
        line, column = self.place(location)
        return Problem(self.path, line, column, message)


@dataclass
class Recorder:
    """Collects places and problems while a file is read, and enforces the limits. Shared by the YAML and the JSON reader."""

    path: str
    limits: Limits
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def node(self, location: Path, place: Place) -> None:
        """Count a value at `place`. Raises Invalid when the file has too many or nests too deeply."""
        self.nodes += 1
        if self.nodes > self.limits.nodes:
            raise self.stop(place, f"the file has more than {self.limits.nodes} values; split the project")
        if len(location) > self.limits.depth:
            raise self.stop(place, f"nested more than {self.limits.depth} levels deep; nothing in a config file needs that")
        self.values.setdefault(location, place)

    def key(self, location: Path, place: Place) -> None:
        """Record a mapping's key; a key that was there before is a problem that names the first place."""
        first = self.keys.get(location)
        name = printable(str(location[-1]))
        if first is not None:
            self.problems.append(
                Problem(self.path, *place, f'duplicate key "{name}": it is already at line {first[0]}; remove one of them')
            )
        else:
            self.keys[location] = place

    def text(self, text: str, place: Place) -> str:
        """Check one scalar's text. Raises Invalid when it is too long or cannot be stored."""
        if len(text) > self.limits.scalar:
            raise self.stop(place, f"a text of {len(text)} characters; at most {self.limits.scalar} are read")
        if _UNSTORABLE.search(text):
            raise self.stop(place, "a text with a NUL or half a surrogate pair; remove the escape that makes it")
        return text

    def stop(self, place: Place, message: str) -> Invalid:
        """The error that ends reading, with what was found before."""
        return Invalid([*self.problems, Problem(self.path, *place, message)])

    def document(self, value: Value) -> Document:
        """The finished document."""
        return Document(self.path, value, self.keys, self.values, tuple(self.problems))


def line_column(text: str, index: int) -> Place:
    """Line and column of a character, from 1."""
    return text.count("\n", 0, index) + 1, index - (text.rfind("\n", 0, index) + 1) + 1
