"""JSON (RFC 8259) with the place of every key and value, which the standard library's reader does not tell."""

from __future__ import annotations

import re
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # the reader of every JSONDecoder; stubs lack it

from reconciler.errors import Invalid
from reconciler.model.recorder import Decimal, Document, Path, Place, Recorder, Value, line_column

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None}
_DIGITS = 30


def read(text: str, recorder: Recorder) -> Document:
    """The value of `text`. Raises Invalid at the first character that is not JSON."""
    reader = _Reader(text, recorder)
    value = reader.value(())
    if reader.peek():
        raise reader.stop("more text after the end of the JSON value; remove it")
    return recorder.document(value)


class _Reader:
    def __init__(self, text: str, recorder: Recorder) -> None:
        self.text = text
        self.recorder = recorder
        self.at = 0
        self.line, self.line_start = 1, 0

    def peek(self) -> str:
        """The next character that is not white space, "" at the end."""
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self._forward(match.end())
        return self.text[self.at : self.at + 1]

    def stop(self, message: str, index: int | None = None) -> Invalid:
        return self.recorder.stop(line_column(self.text, self.at if index is None else index), message)

    def value(self, location: Path) -> Value:
        first = self.peek()
        place = self._place()
        self.recorder.node(location, place)
        if first == "{":
            return self._object(location)
        if first == "[":
            return self._array(location)
        if first == '"':
            return self._string(place)
        for word, value in _WORDS.items():
            if self.text.startswith(word, self.at):
                self._forward(self.at + len(word))
                return value
        return self._number()

    def _object(self, location: Path) -> dict[str, Value]:
        found: dict[str, Value] = {}
        self._forward(self.at + 1)
        if self._closes("}"):
            return found
        while True:
            if self.peek() != '"':
                raise self.stop("expected a key in double quotes")
            place = self._place()
            key = self._string(place)
            self.recorder.key((*location, key), place)
            if self.peek() != ":":
                raise self.stop('expected ":" after the key')
            self._forward(self.at + 1)
            found[key] = self.value((*location, key))
            if self._ends("}"):
                return found

    def _array(self, location: Path) -> tuple[Value, ...]:
        items: list[Value] = []
        self._forward(self.at + 1)
        if self._closes("]"):
            return ()
        while True:
            items.append(self.value((*location, len(items))))
            if self._ends("]"):
                return tuple(items)

    def _string(self, place: Place) -> str:
        try:
            text, end = scanstring(self.text, self.at + 1, True)
        except JSONDecodeError as error:
            raise self.stop(f"not a JSON text: {error.msg.lower()}", error.pos) from None
        self._forward(end)
        return self.recorder.text(text, place)

    def _number(self) -> int | float:
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            raise self.stop("expected a JSON value: a text in double quotes, a number, true, false, a list or a mapping")
        if len(match[0]) > _DIGITS:
            raise self.stop(f"a number of {len(match[0])} digits; put it in double quotes")
        self._forward(match.end())
        if match[1] or match[2]:
            return Decimal(match[0])
        return int(match[0])

    def _closes(self, end: str) -> bool:
        if self.peek() != end:
            return False
        self._forward(self.at + 1)
        return True

    def _ends(self, end: str) -> bool:
        """After an element: True at `end`, False after a comma."""
        if self._closes(end):
            return True
        if self.peek() != ",":
            raise self.stop(f'expected "," or "{end}"')
        self._forward(self.at + 1)
        return False

    def _place(self) -> Place:
        return self.line, self.at - self.line_start + 1

    def _forward(self, to: int) -> None:
        """Move on, counting lines on the way: looking back from each value would make long files quadratic."""
        newlines = self.text.count("\n", self.at, to)
        if newlines:
            self.line += newlines
            self.line_start = self.text.rfind("\n", 0, to) + 1
        self.at = to
