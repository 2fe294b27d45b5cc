"""Reading the command line: global options anywhere, durations, and the names that a shell may complete."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter, ValidationError

from reconciler.model.grammar import PositiveDuration

_DURATION: TypeAdapter[float] = TypeAdapter(PositiveDuration)


def hoisted(arguments: Sequence[str], valued: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The arguments with global options in front, in their order; nothing after `--` is moved."""
    front: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--":
            rest += [argument, *left]
            break
        name, equals, _ = argument.partition("=")
        if argument in flags or (equals and name in valued):
            front.append(argument)
        elif argument in valued and left:
            front += [argument, left.pop(0)]
        else:
            rest.append(argument)
    return [*front, *rest]


def seconds(value: str | float) -> float:
    """`90s`, `15m` or a number of seconds. Raises BadParameter."""
    try:
        return _DURATION.validate_python(value if isinstance(value, int | float) or not value.isdecimal() else int(value))
    except ValidationError as error:
        raise typer.BadParameter(f"{value!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def service_names(context: typer.Context, incomplete: str) -> list[str]:
    """Services of the state directory's copy of the decision, for shell completion; silent when it cannot be read."""
    given: dict[str, Any] = getattr(context.find_root(), "params", {})
    directory = given.get("state_dir") or os.environ.get("RECONCILER_STATE_DIR") or "/var/lib/reconciler"
    try:
        services = json.loads((Path(str(directory)) / "cluster.json").read_bytes())["cluster"]["services"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sorted(name for name in services if str(name).startswith(incomplete))
