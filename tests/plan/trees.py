"""Files of a config revision for tests: from text, or from a directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from reconciler.model.source import REGULAR, SourceFile


def tree(texts: Mapping[str, str | bytes]) -> dict[str, SourceFile]:
    """Regular files by path."""
    return {path: source(path, text.encode() if isinstance(text, str) else text) for path, text in texts.items()}


def source(path: str, data: bytes, mode: int = REGULAR) -> SourceFile:
    """One file with the object id that Git would give it."""
    return SourceFile(path, mode, hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), data)


def directory(root: Path) -> dict[str, SourceFile]:
    """Every file below a directory of test data, but not what a test expects of it."""
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "expected.txt")
    return tree({str(path.relative_to(root)): path.read_bytes() for path in paths})
