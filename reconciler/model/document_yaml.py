"""The strict YAML subset, read from PyYAML's events: nothing is constructed that was not checked first."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml
from yaml import events

from reconciler.errors import Invalid
from reconciler.model.printable import printable
from reconciler.model.recorder import Decimal, Document, Path, Place, Recorder, Scalar, Value

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,14}")  # longer ones stay text: they are identifiers, not amounts
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None, "~": None, "": None}


def read(text: str, recorder: Recorder) -> Document:
    """The one document of `text`. Raises Invalid at the first thing that makes reading on senseless."""
    stream = _events(text, recorder)
    try:
        next(stream)  # stream start
        start = next(stream)
        if isinstance(start, events.StreamEndEvent):
            raise recorder.stop((0, 0), "the file has only comments; remove the file if that is meant")
        value = _node(next(stream), stream, (), recorder)
        next(stream)  # document end
        after = next(stream)
    except StopIteration:
        raise recorder.stop((0, 0), "the file ends in the middle of a value") from None
    if not isinstance(after, events.StreamEndEvent):
        raise recorder.stop(_place(after), 'a second document ("---"); one file is one document')
    return recorder.document(value)


def _events(text: str, recorder: Recorder) -> Iterator[yaml.Event]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            yield loader.get_event()  # type: ignore[no-untyped-call]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise recorder.stop(place, _plain(error, text)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # an escape such as \U00110000 is a bare ValueError
        raise recorder.stop((0, 0), f"not YAML: {printable(str(error).splitlines()[0])}") from None
    finally:
        loader.dispose()


def _plain(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return "a tab where YAML wants spaces; indent with spaces"
    return f"not YAML: {printable(error.problem or 'cannot be read')}" + (f" ({printable(error.context)})" if error.context else "")


def _node(event: yaml.Event, stream: Iterator[yaml.Event], location: Path, recorder: Recorder) -> Value:
    place = _place(event)
    _refuse_machinery(event, place, recorder)
    recorder.node(location, place)
    match event:
        case events.ScalarEvent():
            return _scalar(event, place, recorder)
        case events.SequenceStartEvent():
            items: list[Value] = []
            while not isinstance(item := next(stream), events.SequenceEndEvent):
                items.append(_node(item, stream, (*location, len(items)), recorder))
            return tuple(items)
        case _:
            return _mapping(stream, location, recorder)


def _mapping(stream: Iterator[yaml.Event], location: Path, recorder: Recorder) -> dict[str, Value]:
    found: dict[str, Value] = {}
    while not isinstance(event := next(stream), events.MappingEndEvent):
        place = _place(event)
        _refuse_machinery(event, place, recorder)
        if not isinstance(event, events.ScalarEvent) or not event.value:
            raise recorder.stop(place, "a key that is not a name; keys are plain text")
        key = recorder.text(event.value, place)
        if key == "<<":
            raise recorder.stop(place, 'the merge key "<<" is not supported; write the values out')
        recorder.key((*location, key), place)
        found[key] = _node(next(stream), stream, (*location, key), recorder)
    return found


def _scalar(event: events.ScalarEvent, place: Place, recorder: Recorder) -> Scalar:
    text = recorder.text(event.value, place)
    if event.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return Decimal(text) if _DECIMAL.fullmatch(text) else text


def _refuse_machinery(event: yaml.Event, place: Place, recorder: Recorder) -> None:
    refused: Invalid | None = None
    if isinstance(event, events.AliasEvent):
        refused = recorder.stop(place, f'the alias "*{printable(event.anchor or "")}" is not supported; write the value out')
    elif getattr(event, "anchor", None) is not None:
        refused = recorder.stop(place, f'the anchor "&{printable(event.anchor or "")}" is not supported; remove it')  # type: ignore[attr-defined]
    elif getattr(event, "tag", None) is not None:
        refused = recorder.stop(place, f'the tag "{printable(event.tag)}" is not supported; remove it')  # type: ignore[attr-defined]
    if refused is not None:
        raise refused


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)
