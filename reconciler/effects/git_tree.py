"""A revision's files, found by walking tree objects. Nothing is followed, nothing is checked out, everything is bounded."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.effects.git_objects import ObjectStore
from reconciler.errors import Invalid, Problem, Stalled
from reconciler.model.revision import MODE_SUBMODULE, MODE_TREE, TreeEntry

DEFAULT_PREFIXES = ("cluster.yaml", "projects/")
_DEPTH_MAX = 30


def walk_tree(objects: ObjectStore, tree: str, prefixes: Sequence[str], limit: int) -> dict[str, TreeEntry]:
    """The entries below `tree` that `prefixes` select, by path, in Git's order.

    A prefix is a path, or a directory with a slash at its end. Something else in that directory's place (a symlink, say) is an
    entry. Raises Invalid for names that could mean another place or hide something, Stalled for more than `limit` objects (the
    same directory may be nested in itself many times over, so that is no matter of the repository's size).
    """
    found: dict[str, TreeEntry] = {}
    problems: list[Problem] = []
    pending = [("", tree)]
    seen = 0
    while pending:
        directory, oid = pending.pop()
        for entry in objects.tree(oid):
            path = directory + _readable(entry.name)
            is_tree = entry.mode == MODE_TREE
            if not _selected(path, is_tree, prefixes):
                continue
            seen += 1
            if seen > limit or path.count("/") > _DEPTH_MAX:
                raise Stalled(
                    f"{directory or 'the root'} brings the config to more than {limit} files or {_DEPTH_MAX} levels;"
                    " move what is no config elsewhere",
                    reason="TreeTooLarge",
                )
            if (problem := _problem(entry.name)) is not None:
                problems.append(Problem(path, 0, 0, problem))
            elif is_tree:
                pending.append((path + "/", entry.oid))
            else:
                size = 0 if entry.mode == MODE_SUBMODULE else objects.size(entry.oid)[1]
                found[path] = TreeEntry(path, entry.mode, entry.oid, size)
    if problems:
        raise Invalid(problems)
    return dict(sorted(found.items()))


def find_file(objects: ObjectStore, tree: str, path: str) -> str | None:
    """The id of the regular file at `path` below `tree`; None if there is none, or if a symlink or submodule is in its place."""
    *directories, name = path.encode().split(b"/")
    for directory in directories:
        inner = [e.oid for e in objects.tree(tree) if e.name == directory and e.mode == MODE_TREE]
        if not inner:
            return None
        tree = inner[0]
    files = [e for e in objects.tree(tree) if e.name == name]
    return next((e.oid for e in files if TreeEntry(path, e.mode, e.oid, 0).is_file), None)


def _selected(path: str, is_tree: bool, prefixes: Sequence[str]) -> bool:
    for prefix in prefixes:
        if path.startswith(prefix) if prefix.endswith("/") or not prefix else path == prefix:
            return True
        if prefix.rstrip("/") == path or (is_tree and prefix.startswith(path + "/")):
            return True
    return False


def _readable(name: bytes) -> str:
    text = name.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _problem(name: bytes) -> str | None:
    if name in (b"", b".", b"..") or name.lower() == b".git" or b"/" in name or b"\\" in name:
        return "this name may mean another place; rename it"
    if _readable(name).encode() != name:
        return "the name holds control characters or is no UTF-8; rename it"
    return None
