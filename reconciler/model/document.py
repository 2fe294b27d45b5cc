"""YAML and JSON files of the config repository as plain values with the place of every key and value.

The YAML accepted is a strict subset: no anchors, aliases, merge keys, tags or second documents; only `true`, `false`, decimal
integers, simple decimals and null are anything but text, so that `22:22`, `no`, `010` and dates stay what was written. Sizes are
bounded before and while reading, so no file can make a reader hang or grow.
"""

from __future__ import annotations

import re

from reconciler.errors import Invalid, Problem
from reconciler.model import document_json, document_yaml
from reconciler.model.printable import printable
from reconciler.model.recorder import LIMITS, Document, Limits, Recorder, line_column

__all__ = ["LIMITS", "Document", "Limits", "parse"]

_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LFS = b"version https://git-lfs.github.com/spec/"


def parse(path: str, data: bytes, limits: Limits = LIMITS) -> Document:
    """Read a `.json` file as JSON and anything else as YAML. Raises Invalid with the place of what cannot be read."""
    path = printable(path)
    text = _decode(path, data, limits)
    recorder = Recorder(path, limits)
    if path.endswith(".json"):
        return document_json.read(text, recorder)
    return document_yaml.read(text, recorder)


def _decode(path: str, data: bytes, limits: Limits) -> str:
    if len(data) > limits.size:
        raise Invalid([Problem(path, 0, 0, f"the file has {len(data)} bytes; at most {limits.size} are read: split the project")])
    if data.startswith(_LFS):
        raise Invalid([Problem(path, 1, 1, "this is a Git LFS pointer, not the file; keep config files out of LFS")])
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise Invalid([Problem(path, 1, 1, "the file begins with a byte order mark; save it as UTF-8 without one")])
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise Invalid([Problem(path, line, column, message)]) from None
    if bad := _CONTROL.search(text):
        line, column = line_column(text, bad.start())
        raise Invalid([Problem(path, line, column, f"the control character U+{ord(bad[0]):04X}; remove it")])
    if not text.strip():
        raise Invalid([Problem(path, 0, 0, "the file is empty; remove the file if that is meant")])
    return text
