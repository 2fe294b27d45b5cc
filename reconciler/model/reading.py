"""Source files into their models, with every fault told in plain words at its place: found, expected, what to change."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from reconciler.errors import Invalid, Problem
from reconciler.model.document import LIMITS, Limits, parse
from reconciler.model.printable import kind, printable, shown
from reconciler.model.recorder import Document, Path, Value

M = TypeVar("M", bound=BaseModel)

_SILENT = frozenset({"env", "command", "entrypoint"})  # a secret may stand below these: never say the value
_LATER = frozenset({"steps", "analysis", "sticky", "match", "keep_previous", "failure_action", "hooks", "after", "build", "tls"})
_HOST = frozenset({"network_mode", "network", "pid", "ipc", "uts", "userns", "userns_mode", "devices", "security_opt", "cgroupns"})
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false (without quotes)",
    "string_type": "a text (put it in quotes)",
    "tuple_type": "a list",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}


def read(path: str, data: bytes, model: type[M], limits: Limits = LIMITS) -> tuple[M, Document]:
    """Read a file into `model`. Raises Invalid with every problem of the file."""
    document = parse(path, data, limits)
    value, problems = check(document, model)
    if value is None or problems:
        raise Invalid(problems)
    return value, document


def check(document: Document, model: type[M]) -> tuple[M | None, list[Problem]]:
    """The model, or None, and every problem found in the document."""
    problems = [*document.problems, *_nothings(document, document.value, ())]
    places = {(p.line, p.column) for p in problems}
    try:
        return model.model_validate(document.value), problems
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        problem = _problem(document, model, detail)
        if (problem.line, problem.column) not in places or detail["type"] in ("missing", "extra_forbidden"):
            problems.append(problem)
    return None, problems


def dotted(location: Path) -> str:
    """A place inside a file for people: `project.services.api.port`."""
    return printable(".".join(str(element) for element in location if isinstance(element, str)))


def _nothings(document: Document, value: Value, location: Path) -> Iterator[Problem]:
    """A key without a value: in YAML an empty value is easily written and hardly seen."""
    match value:
        case None if location:
            yield document.problem(location, f"{dotted(location)} has no value; give it one or remove it")
        case Mapping():
            for key, item in value.items():
                yield from _nothings(document, item, (*location, key))
        case tuple():
            for index, item in enumerate(value):
                yield from _nothings(document, item, (*location, index))


def _problem(document: Document, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    location: Path = tuple(detail["loc"])
    found, reached = _follow(document.value, location)
    name = dotted(reached) or "the file"
    say = kind if _SILENT & set(location) else shown
    match detail["type"]:
        case "missing":
            return document.problem(location[:-1], f'{dotted(location[:-1]) or "the file"} lacks the key "{location[-1]}"; add it')
        case "extra_forbidden":
            return document.problem(location, _unknown(model, location))
        case "value_error":
            message = str(detail["ctx"]["error"])
            if not message.startswith("expected "):
                return document.problem(location, f"{name}: {message}")
            expected = message.removeprefix("expected ")
        case "literal_error":
            expected = str(detail["ctx"]["expected"]).replace("True", "true").replace("'", "")
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
            bound, limit = next(iter((k, v) for k, v in detail["ctx"].items() if k in words))
            expected = f"{words[bound]} {limit}"
        case "too_short":
            expected = "at least one entry"
        case other:
            expected = _EXPECTED.get(other, detail["msg"])
    if "[key]" in location:  # the fault is in a mapping's key, not in its value
        return document.problem(reached, f"the name {shown(str(reached[-1]))} in {dotted(reached[:-1])}: expected {expected}")
    return document.problem(location, f"{name}: found {say(found)}, expected {expected}")


def _follow(value: Value, location: Path) -> tuple[Value, Path]:
    """The value at `location` and the location in the file; elements that the file does not have are passed over."""
    reached: Path = ()
    for element in location:
        match value, element:
            case Mapping() as mapping, str(key) if key in mapping:
                value = mapping[key]
            case tuple() as items, int(index) if index < len(items):
                value = items[index]
            case _:
                continue
        reached = (*reached, element)
    return value, reached


def _unknown(model: type[BaseModel], location: Path) -> str:
    key = str(location[-1])
    where = dotted(location[:-1])
    name = printable(key[:60])
    if key in _LATER:
        return f'"{name}" in {where} is not available yet; remove it'
    if key in _HOST:
        return f'"{name}" in {where} is not supported: containers never join the host\'s namespaces or get its devices; remove it'
    known = sorted(_fields(model, location[:-1]))
    close = difflib.get_close_matches(key, known, 1)
    advice = f'did you mean "{close[0]}"?' if close else f"known keys: {', '.join(known)}"
    return f'unknown key "{name}"' + (f" in {where}" if where else "") + f"; {advice}"


def _fields(model: type[BaseModel], location: Path) -> set[str]:
    """The keys that the model knows at a place."""
    current: Any = model
    for element in location:
        if isinstance(current, type) and issubclass(current, BaseModel) and element in current.model_fields:
            current = _bare(current.model_fields[str(element)].annotation)
        elif get_origin(current) is tuple or get_origin(current) is not None:
            current = _bare(get_args(current)[-1 if get_origin(current) is not tuple else 0])
    return set(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else set()


def _bare(annotation: Any) -> Any:
    """An annotation without Annotated and None: what it is about."""
    while True:
        origin = get_origin(annotation)
        if origin is typing.Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
        else:
            return annotation
