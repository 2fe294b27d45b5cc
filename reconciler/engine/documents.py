"""Reads the YAML of status files, which anybody who may push can have filled with anything.

A server writes plain documents: mappings, lists, and scalars as JSON has them. Whatever else YAML can say is refused before it is
built, as it can take memory and time without end: nesting, aliases (a few lines that mean millions), numbers in base 60.
"""

from __future__ import annotations

from typing import Any

import yaml

NESTING_MOST = 200
VALUES_MOST = 300_000
"""A cluster state of two hundred services on ten servers each has less than half of that; so many take some hundred megabytes."""
DIGITS_MOST = 40
_PLAIN_BYTES = 64 * 1024

_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(ValueError):
    """What a document is, in words that go on from "it": "is not YAML"."""


class _Loader(_SAFE):  # type: ignore[misc]
    """Without numbers that take longer to understand than to write."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        return super().construct_yaml_int(_short(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> Any:
        return super().construct_yaml_float(_short(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def parse(data: bytes) -> object:
    """The document. Raises Unreadable.

    By libyaml where PyYAML has it: ten times as fast. But there, nesting is the C stack's: what could nest deeply, or be much, is
    looked through before, as events, which nest nowhere and are not kept.
    """
    try:
        if _is_to_be_looked_through(data):
            _look_through(data)
        return yaml.load(data, Loader=_Loader)  # a safe one either way
    except Unreadable:
        raise
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:  # dates that are none are a ValueError
        raise Unreadable("is not YAML") from error


def _is_to_be_looked_through(data: bytes) -> bool:
    longest = max(map(len, data.splitlines()), default=0)
    nests = data.count(b"[") + data.count(b"{") > NESTING_MOST or longest > NESTING_MOST
    return nests or b"*" in data or len(data) > _PLAIN_BYTES


def _look_through(data: bytes) -> None:
    depth = values = 0
    for event in yaml.parse(data, Loader=_SAFE):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("has YAML aliases, which no server writes")
        if depth > NESTING_MOST:
            raise Unreadable(f"is nested more than {NESTING_MOST} levels deep")
        if values > VALUES_MOST:
            raise Unreadable(f"has more than {VALUES_MOST} values")


def _short(node: yaml.ScalarNode) -> yaml.ScalarNode:
    if len(node.value) > DIGITS_MOST:
        raise Unreadable(f"has a number of more than {DIGITS_MOST} digits")
    return node
