"""What leaves the server in a report is cleared of values that the config or the secrets directory gave the container."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHORTEST = 4
"""Values shorter than this are not replaced: "1" or "on" would blacken every line and hide nothing."""


def redacted(lines: Iterable[str], values: Sequence[str]) -> tuple[str, ...]:
    """Replace every occurrence of a value, and of each of its lines, by `***`."""
    parts = {part.strip() for value in values for part in (value, *value.splitlines())}
    ordered = sorted((part for part in parts if len(part) >= SHORTEST), key=len, reverse=True)
    cleared = []
    for line in lines:
        for part in ordered:
            line = line.replace(part, "***")
        cleared.append(line)
    return tuple(cleared)
