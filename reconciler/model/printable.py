"""Values as they may stand in a message: harmless to a terminal, short, and without credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SHOWN = 60


def printable(text: str) -> str:
    """`text` with everything that a terminal could act on (escape sequences, direction marks, line breaks) made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """A value for a message: what it is, in words, shortened and harmless to a terminal; credentials in addresses are masked."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"[:_SHOWN]
        case str():
            masked = re.sub(r"//[^/@]*@", "//***@", value)
            text = printable(masked[:_SHOWN]) + ("..." if len(masked) > _SHOWN else "")
            return f'"{text}"'
        case Mapping():
            return "a mapping"
        case _:
            return "a list"


def kind(value: object) -> str:
    """What a value is, without saying it: for places where a secret may stand."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case _:
            return shown(value)
