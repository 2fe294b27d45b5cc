"""The files of one config revision, as the object store has them: nothing is checked out, no link is followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REGULAR = 0o100644
EXECUTABLE = 0o100755
SYMLINK = 0o120000
SUBMODULE = 0o160000


@dataclass(frozen=True)
class SourceFile:
    """One entry of the revision's tree. `data` is None for files whose bytes were not read (large or not needed)."""

    path: str
    mode: int  # Git's, such as 0o100644
    oid: str
    data: bytes | None = None

    @property
    def regular(self) -> bool:
        """Whether it is a file, not a symbolic link or submodule."""
        return self.mode in (REGULAR, EXECUTABLE)


Files = Mapping[str, SourceFile]


def obstacle(files: Files, path: str) -> str | None:
    """Why `path` cannot be read as a file: it, or a directory on the way, is a symbolic link or submodule. None if it can."""
    parts = path.split("/")
    for length in range(1, len(parts) + 1):
        entry = files.get("/".join(parts[:length]))
        if entry is None:
            continue
        if entry.mode == SYMLINK:
            return f"{entry.path} is a symbolic link; links are not followed: put the file itself there"
        if entry.mode == SUBMODULE:
            return f"{entry.path} is a submodule; submodules are not read: put the files themselves there"
    return None
