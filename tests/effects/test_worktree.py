"""A directory read as a commit of it would be: the same ids as Git's, no link followed, nothing that Git ignores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.effects.worktree import committed_files, find_root, read_worktree
from reconciler.errors import Invalid, Stalled
from reconciler.model.source import EXECUTABLE, SYMLINK
from tests.remote import Remote


def _tree(root: Path) -> Path:
    shop = root / "projects" / "shop"
    (shop / "src").mkdir(parents=True)
    (root / "cluster.yaml").write_text("servers: {one: {}}\n")
    (root / "README.md").write_text("not config\n")
    (shop / "prod.yaml").write_text("project: {name: shop, services: {}}\n")
    (shop / "Dockerfile").write_text("FROM x\n")
    (shop / "src" / "run").write_bytes(b"#!/bin/sh\n\xff")
    (shop / "src" / "run").chmod(0o755)
    (shop / "link").symlink_to("/etc/passwd")
    return root


def test_paths_modes_and_ids_are_those_of_a_commit(tmp_path: Path, git_remote: Remote) -> None:
    root = _tree(tmp_path / "tree")
    (root / "projects" / "shop" / "link").unlink()
    (root / "projects" / "shop" / "src" / "run").chmod(0o644)  # the test's remote commits no executables
    sha = git_remote.commit_tree(root, "Tree")
    committed = committed_files(git_remote.path / "objects", sha)
    assert committed is not None
    assert read_worktree(root) == committed


def test_a_link_is_an_entry_and_never_content(tmp_path: Path) -> None:
    files = read_worktree(_tree(tmp_path))
    link = files["projects/shop/link"]
    assert link.mode == SYMLINK and link.data is None
    assert files["projects/shop/src/run"].mode == EXECUTABLE


def test_a_link_to_a_directory_is_not_entered(tmp_path: Path) -> None:
    root = _tree(tmp_path / "tree")
    (root / "projects" / "other").symlink_to(root / "projects" / "shop")
    assert [path for path in read_worktree(root) if path.startswith("projects/other")] == ["projects/other"]


def test_what_git_ignores_is_left_out_and_what_is_not_yet_added_is_not(tmp_path: Path, git_remote: Remote) -> None:
    root = _tree(tmp_path / "tree")
    Remote(root).git("init", "--quiet", ".")
    (root / ".gitignore").write_text("*.pyc\ncache/\n")
    (root / "projects" / "shop" / "a.pyc").write_bytes(b"x")
    (root / "projects" / "shop" / "cache").mkdir()
    (root / "projects" / "shop" / "cache" / "b").write_bytes(b"x")
    found = read_worktree(root)
    assert "projects/shop/prod.yaml" in found
    assert not [path for path in found if path.endswith(".pyc") or "cache" in path]


def test_a_pipe_in_the_tree_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    root = _tree(tmp_path)
    os.mkfifo(root / "projects" / "shop" / "pipe")
    with pytest.raises(Stalled, match="not a regular file"):
        read_worktree(root)


def test_the_repository_is_found_from_within(tmp_path: Path) -> None:
    root = _tree(tmp_path)
    assert find_root(root / "projects" / "shop" / "prod.yaml") == root
    with pytest.raises(Invalid, match="no such file"):
        find_root(root / "nothing")


def test_a_commit_that_is_not_there_has_no_files(git_remote: Remote) -> None:
    assert committed_files(git_remote.path / "objects", "0" * 40) is None
