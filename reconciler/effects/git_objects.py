"""Git objects read and written inside this process: no subprocess, no lock, no work tree.

Reading goes through GitPython's object database. Every pack was checked by git's own index-pack when it came, and on top of
that each object's size is looked at before it is inflated and its id is computed again afterwards, so that a damaged clone is
noticed and never believed. Writing makes loose objects: temporary name, fsync, rename.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

from git import GitDB
from gitdb.exc import BadObject  # type: ignore[import-untyped]
from gitdb.util import mman  # type: ignore[import-untyped]

from reconciler.errors import ReconcilerError, Stalled
from reconciler.model.revision import MODE_FILE, MODE_TREE, CommitInfo

Kind = Literal["blob", "tree", "commit"]
META_LIMIT = 16 * 1024 * 1024
_SHA = re.compile(r"^[0-9a-f]{40}$")
_IDENT = re.compile(r"^(.*?) ?<[^>]*> (-?\d+) ([+-]\d{4})$")
_FORBIDDEN = re.compile(r"[<>\n\0]")


class Missing(ReconcilerError):
    """There is no object of that id in the clone."""


class Damaged(ReconcilerError):
    """An object is there and is not what its id says."""


@dataclass(frozen=True)
class RawEntry:
    """One line of a tree object. `name` is whatever somebody committed."""

    mode: int
    name: bytes
    oid: str


@dataclass(frozen=True)
class Commit:
    """A commit object, taken apart."""

    tree: str
    info: CommitInfo
    committed: int


class ObjectStore:
    """The objects below one directory."""

    def __init__(self, objects: Path) -> None:
        self._objects = objects
        self._database: Any = None  # gitdb has no types
        self._packs: frozenset[tuple[str, int, int]] = frozenset()

    def reopen(self) -> None:
        """Notice packs that came, went or were replaced. Has to follow everything that may do so; lets go of the old ones."""
        packs = self._packs_now()
        if self._database is not None and packs != self._packs:
            self._database = None
            gc.collect()  # the database refers to itself, and the maps of its packs are released only after it
            mman.collect()
        self._packs = packs

    def size(self, oid: str) -> tuple[str, int]:
        """Kind and size in bytes of an object. Raises Missing or Damaged."""
        info = self._ask("info", oid)
        return info.type.decode(), info.size

    def read(self, oid: str, kind: Kind, limit: int = META_LIMIT) -> bytes:
        """The content of an object. Raises Missing, Damaged (also if it is of another kind), or Stalled beyond `limit` bytes."""
        found, size = self.size(oid)
        if found != kind:
            raise Damaged(f"object {oid} is a {found}; expected a {kind}")
        if size > limit:
            raise Stalled(f"{kind} {oid} has {size} bytes; at most {limit} are read: make it smaller", reason="TooLarge")
        try:
            content: bytes = self._ask("stream", oid).read()
        except Exception as error:  # whatever inflating damaged bytes may raise
            raise Damaged(f"object {oid} cannot be read ({type(error).__name__})") from error
        if _digest(_framed(kind, content)) != oid:
            raise Damaged(f"object {oid} has other content than its id says")
        return content

    def tree(self, oid: str) -> list[RawEntry]:
        """The entries of a tree in Git's order."""
        content, entries = self.read(oid, "tree"), []
        while content:
            mode, _, rest = content.partition(b" ")
            name, _, rest = rest.partition(b"\0")
            entries.append(RawEntry(int(mode, 8), name, rest[:20].hex()))
            content = rest[20:]
        return entries

    def commit(self, sha: str) -> Commit:
        """A commit, taken apart. Bytes that are no UTF-8 are replaced."""
        head, _, body = self.read(sha, "commit").decode(errors="replace").partition("\n\n")
        lines = [(name, value) for name, _, value in (line.partition(" ") for line in head.split("\n")) if name]
        values = dict(reversed(lines))  # the first of each name counts
        parents = tuple(value for name, value in lines if name == "parent")
        author, _, _ = _identity(values.get("author", ""))
        _, seconds, zone = _identity(values.get("committer", ""))
        subject = "".join(c if c.isprintable() else "?" for c in body.lstrip("\n").partition("\n")[0])
        info = CommitInfo(sha, parents, subject, body, author, _iso(seconds, zone))
        return Commit(values.get("tree", ""), info, seconds)

    def write_commit(self, files: Mapping[str, bytes], parents: Sequence[str], message: str, *, author: str, when: int) -> str:
        """Write a commit whose tree is exactly `files`, by path, and return its id. `when`: seconds since 1970, UTC.

        Raises ValueError for a path or an author that Git could not hold.
        """
        if _FORBIDDEN.search(author) or not author.strip() or "\0" in message:
            raise ValueError(f"author {author!r} or the message holds characters that Git cannot store")
        identity = f"reconciler <{author}> {when} +0000"
        lines = [f"tree {self._write_tree(files)}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {identity}", f"committer {identity}", "", message.strip("\n"), ""]
        return self._write("commit", "\n".join(lines).encode())

    def _write_tree(self, files: Mapping[str, bytes]) -> str:
        blobs: dict[bytes, bytes] = {}
        below: dict[str, dict[str, bytes]] = {}
        for path, content in files.items():
            name, separator, rest = path.partition("/")
            if name in ("", ".", "..") or name.lower() == ".git" or "\0" in name or (separator and not rest):
                raise ValueError(f"{path!r} cannot be a path in Git")
            if separator:
                below.setdefault(name, {})[rest] = content
            else:
                blobs[name.encode()] = content
        entries = [(name, name, MODE_FILE, self._write("blob", content)) for name, content in blobs.items()]
        for name, inner in below.items():
            if name.encode() in blobs:
                raise ValueError(f"{name!r} is a file and a directory at once")
            entries.append((name.encode() + b"/", name.encode(), MODE_TREE, self._write_tree(inner)))
        # Git sorts a directory as if its name ended with a slash (gitformat: tree objects)
        return self._write("tree", b"".join(b"%o %s\0%s" % (m, n, bytes.fromhex(o)) for _, n, m, o in sorted(entries)))

    def _write(self, kind: Kind, content: bytes) -> str:
        framed = _framed(kind, content)
        oid = _digest(framed)
        try:
            if self.read(oid, kind, limit=len(content)) == content:
                return oid
        except (Missing, Damaged, Stalled):
            pass  # not there, or not as it should be: written over
        file = self._objects / oid[:2] / oid[2:]
        file.parent.mkdir(exist_ok=True)
        temporary = file.parent / f"tmp_obj_{oid}"
        with temporary.open("wb") as stream:
            stream.write(zlib.compress(framed))
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o444)
        temporary.replace(file)
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return oid

    def _ask(self, question: Literal["info", "stream"], oid: str) -> Any:
        if not _SHA.match(oid):
            raise Missing(f"{oid!r} is no object id; expected 40 hexadecimal digits")
        if self._database is None:
            self._packs = self._packs_now()
            self._database = GitDB(str(self._objects))
        try:
            return getattr(self._database, question)(bytes.fromhex(oid))
        except BadObject as error:
            raise Missing(f"object {oid} is not in the clone") from error
        except Exception as error:  # a pure-Python reader on damaged bytes: struct, zlib, index, key, assertion errors
            raise Damaged(f"object {oid} cannot be read ({type(error).__name__})") from error

    def _packs_now(self) -> frozenset[tuple[str, int, int]]:
        """Name, inode and size of each pack file: a pack that was repaired has the name of the damaged one."""
        found = [(file.name, file.stat()) for file in (self._objects / "pack").glob("pack-*")]
        return frozenset((name, status.st_ino, status.st_size) for name, status in found)


def _framed(kind: Kind, content: bytes) -> bytes:
    return b"%s %d\0%s" % (kind.encode(), len(content), content)


def _digest(framed: bytes) -> str:
    return hashlib.sha1(framed, usedforsecurity=False).hexdigest()


def _identity(text: str) -> tuple[str, int, str]:
    match = _IDENT.match(text)
    return (match[1], int(match[2]), match[3]) if match else (text, 0, "+0000")


def _iso(seconds: int, zone: str) -> str:
    """ISO 8601 in the committer's own zone. A date beyond what calendars hold becomes 1970 (anybody can commit one)."""
    try:
        offset = timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[3:]))
        return datetime.fromtimestamp(seconds, timezone(offset)).isoformat()
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC).isoformat()
