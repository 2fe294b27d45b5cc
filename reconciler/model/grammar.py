"""The small languages inside config values: names, hosts, paths, durations, sizes. Each is an allow-list.

Every type here raises ValueError with what was expected, beginning with "expected"; `model.reading` puts what was found before it.
Values that reach nginx or Docker contain nothing but the characters listed here.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from reconciler.model.recorder import Decimal

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,12})([bkmg]?)", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = rf"(\*\.)?{_LABEL}(\.{_LABEL})*"
_COMPONENT = r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*"
_IMAGE = (
    rf"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{{1,5}})?/)?{_COMPONENT}(/{_COMPONENT})*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
NAME = r"[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?"
NAME_WORDS = "a name of lower-case letters, digits, - and _ (at most 40, beginning and ending with a letter or digit)"


def valid_name(text: str) -> bool:
    """Whether `text` may name a project, environment, service, server, zone or volume."""
    return re.fullmatch(NAME, text) is not None


def seconds(text: str) -> float | None:
    """A duration such as `500ms`, `2s`, `1m` or `1h` in seconds; None if it is not one."""
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _DURATION_UNITS[match[2]] if match else None


@dataclass(frozen=True)
class Grammar:
    """Metadata of a text type: a pattern for the whole text, and its description in words. Also the JSON Schema's pattern."""

    pattern: str
    expected: str
    longest: int = 255

    def check(self, value: str) -> str:
        """`value` if it matches. Raises ValueError with what was expected."""
        if len(value) > self.longest or re.fullmatch(self.pattern, value) is None:
            raise ValueError(f"expected {self.expected}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^({self.pattern})$", "maxLength": self.longest}


@dataclass(frozen=True)
class NotEmpty:
    """Metadata of a list: at least one entry as written, so that a list of faulty entries is not also called empty."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_some, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        return {**found, "minItems": 1} if found.get("type") == "array" else found


def _some(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("expected at least one entry")
    return value


def _duration(value: object) -> float:
    found = seconds(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 86400 * 7:
        raise ValueError("expected a duration such as 500ms, 2s, 1m or 1h (or a number of seconds), at most 7 days")
    return float(found)


def _positive_duration(value: float) -> float:
    if value <= 0:
        raise ValueError("expected a duration above zero, such as 500ms or 2s")
    return value


def _size(value: object) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    found = int(match[1]) * _SIZE_UNITS[match[2].lower()] if match else value
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 2**53:
        raise ValueError("expected a size such as 512k, 256m or 1g (or a number of bytes)")
    return found


def _text(value: object) -> str:
    """A scalar exactly as it was written."""
    match value:
        case bool():
            return "true" if value else "false"
        case Decimal():
            return value.text
        case str() | int() | float():
            return str(value)
        case _:
            raise ValueError("expected a text, a number, true or false")


def _words(value: object) -> object:
    """A command line: a list of words, or one text that is split as a POSIX shell would, without running one."""
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError:
            raise ValueError("expected a list of words, or a text whose quotes are closed") from None
    if isinstance(value, tuple | list):
        return tuple(_text(word) for word in value)
    raise ValueError("expected a list of words, or one text")


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise ValueError("expected every entry once")
    return value


def _normal_path(value: str) -> str:
    segments = value.split("/")[1:]
    if value != "/" and any(segment in ("", ".", "..") for segment in segments):
        raise ValueError("expected an absolute path without //, /./, /../ and without a / at the end")
    return value


def _path_or_name(value: str) -> str:
    return _normal_path(value) if value.startswith("/") else value


def _relative_path(value: str) -> str:
    if any(segment in ("", ".", "..") for segment in value.split("/")):
        raise ValueError("expected a path below the project's directory, without .. and without a / at either end")
    return value


def _url_path(value: str) -> str:
    if "//" in value or any(segment in (".", "..") for segment in value.split("/")):
        raise ValueError("expected a path without //, /./ and /../")
    return value


def _host(value: str) -> str:
    if len(value) > 253:
        raise ValueError("expected a host name of at most 253 characters")
    return value


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("expected an IP address such as 10.0.0.1 (what a name stands for may change)") from None


def _capability(value: str) -> str:
    return value.removeprefix("CAP_")


Name = Annotated[str, Grammar(NAME, NAME_WORDS)]
Alias = Annotated[
    str, Grammar(r"[a-z]([a-z0-9_-]{0,38}[a-z0-9])?", "a name that begins with a lower-case letter, of letters, digits, - and _")
]
Host = Annotated[
    Annotated[str, Grammar(_HOST, "a host name in lower case such as shop.example, or *.shop.example for every name below it")],
    AfterValidator(_host),
]
UrlPath = Annotated[
    Annotated[str, Grammar(r"/[A-Za-z0-9._~/-]*", "a path that begins with / and has only letters, digits and . _ ~ - /")],
    AfterValidator(_url_path),
]
ContainerPath = Annotated[
    Annotated[str, Grammar(r"/[A-Za-z0-9._@+/-]*", "an absolute path of letters, digits and . _ @ + - /")],
    AfterValidator(_normal_path),
]
DockerfilePath = Annotated[
    str,
    Grammar(
        r"([A-Za-z0-9._+-]+/)*Dockerfile[A-Za-z0-9._+-]*",
        "a path below the project's directory whose file name begins with Dockerfile, such as Dockerfile.api",
    ),
    AfterValidator(_relative_path),
]
Image = Annotated[
    str, Grammar(_IMAGE, "an image such as postgres:16, registry.example/team/app:1.2 or name@sha256:<64 hex digits>", 512)
]
VolumeKey = Annotated[
    Annotated[str, Grammar(rf"{NAME}|/[A-Za-z0-9._@+/-]*", "a volume's name, or an absolute path on the server")],
    AfterValidator(_path_or_name),
]
SecretName = Annotated[str, Grammar(r"[A-Za-z0-9_][A-Za-z0-9._-]*", "a file name of letters, digits, . - and _", 100)]
Capability = Annotated[
    Annotated[str, Grammar(r"(CAP_)?[A-Z][A-Z_]*", "a capability such as NET_ADMIN")], AfterValidator(_capability)
]
RemovalTarget = Annotated[str, Grammar(rf"{NAME}(/{NAME}){{0,2}}", "project, project/env or project/env/service")]
Signal = Annotated[str, Grammar(r"(SIG)?[A-Z]{2,10}[0-9+-]{0,3}", "a signal such as SIGTERM or SIGQUIT")]
Address = Annotated[str, AfterValidator(_address)]

Text = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int | float | bool)]
User = Annotated[
    Annotated[str, Grammar(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?", "a user such as app, 1000 or 1000:1000")],
    BeforeValidator(_text, json_schema_input_type=str | int),
]
Duration = Annotated[float, BeforeValidator(_duration, json_schema_input_type=str | float)]
PositiveDuration = Annotated[Duration, AfterValidator(_positive_duration)]
Size = Annotated[int, BeforeValidator(_size, json_schema_input_type=str | int)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words, json_schema_input_type=str | tuple[Text, ...])]
SomeWords = Annotated[Words, NotEmpty()]
DISTINCT = AfterValidator(_distinct)
NOT_EMPTY = NotEmpty()
Variable = Annotated[
    str, Grammar(r"[A-Za-z_][A-Za-z0-9_]*", "a variable's name of letters, digits and _, not beginning with a digit")
]
Variables = Mapping[Variable, Text]
Port = Annotated[int, Field(ge=1, le=65535)]
