"""A directory on disk as the files that a commit of it would have: same paths, modes and object ids, no link followed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from reconciler.effects import process
from reconciler.effects.git_objects import ObjectStore
from reconciler.effects.git_tree import DEFAULT_PREFIXES, walk_tree
from reconciler.errors import Invalid, Problem, ReconcilerError, Stalled
from reconciler.model.printable import printable
from reconciler.model.source import EXECUTABLE, REGULAR, SYMLINK, Files, SourceFile

INVENTORY = "cluster.yaml"
PROJECTS = "projects"
READ = (".yaml", ".yml", ".json")
_FILES_MOST = 20_000
_BYTES_MOST = 4 * 1024 * 1024
_GIT_SECONDS = 20.0


def find_root(path: Path) -> Path:
    """The config repository that `path` is, or lies in: the nearest directory at or above it with `projects` or cluster.yaml.

    Raises Invalid when there is none.
    """
    start = path.absolute()
    if not start.exists():
        raise Invalid([Problem(str(path), 0, 0, "there is no such file or directory")])
    for directory in (start, *start.parents):
        if directory.is_dir() and ((directory / PROJECTS).is_dir() or (directory / INVENTORY).is_file()):
            return directory
    message = "no config repository is here or above: expected a directory with projects/<project>/<environment>.yaml"
    raise Invalid([Problem(str(path), 0, 0, message)])


def read_worktree(root: Path) -> Files:
    """The config files below `root`: cluster.yaml and everything in projects, without what Git is told to ignore.

    Raises Invalid for names that no commit may have, Stalled when there are too many files or one cannot be read.
    """
    files: dict[str, SourceFile] = {}
    ignored = _ignored(root)
    for path in _paths(root):
        name = path.relative_to(root).as_posix()
        if name in ignored or any(name.startswith(f"{directory}/") for directory in ignored):
            continue
        if printable(name) != name:
            raise Invalid([Problem(printable(name), 0, 0, "the name holds control characters; rename it")])
        if len(files) >= _FILES_MOST:
            raise Stalled(f"{root} has more than {_FILES_MOST} config files; move what is no config elsewhere")
        files[name] = _read(path, name)
    return dict(sorted(files.items()))


def blob_id(content: bytes) -> str:
    """The object id that Git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _paths(root: Path) -> Iterator[Path]:
    inventory = root / INVENTORY
    if inventory.is_symlink() or inventory.exists():
        yield inventory
    projects = root / PROJECTS
    if projects.is_symlink():
        yield projects
        return
    for directory, names, files in os.walk(projects, followlinks=False):
        here = Path(directory)
        linked = [name for name in names if (here / name).is_symlink()]
        names[:] = sorted(name for name in names if name != ".git" and name not in linked)
        for name in sorted((*files, *linked)):
            yield here / name


def _read(path: Path, name: str) -> SourceFile:
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return SourceFile(name, SYMLINK, blob_id(os.fsencode(os.readlink(path))))
        if not stat.S_ISREG(status.st_mode):
            raise Stalled(f"{path} is not a regular file; remove it from the config repository")
        content = path.read_bytes()
    except OSError as error:
        raise Stalled(f"{path} cannot be read: {error.strerror}") from error
    mode = EXECUTABLE if status.st_mode & stat.S_IXUSR else REGULAR
    wanted = path.name.endswith(READ) or path.name.startswith("Dockerfile")
    return SourceFile(name, mode, blob_id(content), content if wanted and len(content) <= _BYTES_MOST else None)


def _ignored(root: Path) -> frozenset[str]:
    """Untracked files and directories that .gitignore leaves out of commits; none when this is no work tree of Git."""
    arguments = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory", "--", INVENTORY, PROJECTS)
    try:
        done = process.run(["git", "-C", str(root), *arguments], timeout=_GIT_SECONDS)
    except ReconcilerError:
        return frozenset()
    if done.code != 0:
        return frozenset()
    return frozenset(name.decode(errors="replace").rstrip("/") for name in done.stdout.split(b"\0") if name)


def committed_files(objects: Path, revision: str) -> Files | None:
    """The config files of a commit, read from a directory of Git objects that is only looked at. None if it is not whole there."""
    store = ObjectStore(objects)
    files = {}
    try:
        entries = walk_tree(store, store.commit(revision).tree, DEFAULT_PREFIXES, _FILES_MOST)
        for path, entry in entries.items():
            name = path.rsplit("/", 1)[-1]
            wanted = entry.is_file and (name.endswith(READ) or name.startswith("Dockerfile"))
            data = store.read(entry.oid, "blob", _BYTES_MOST) if wanted else None
            files[path] = SourceFile(path=path, mode=entry.mode, oid=entry.oid, data=data)
    except (ReconcilerError, OSError):
        return None
    return files


def commit_subject(objects: Path, revision: str) -> str:
    """The first line of a commit's message, printable; empty if the commit is not there."""
    try:
        return ObjectStore(objects).commit(revision).info.subject
    except (ReconcilerError, OSError):
        return ""
