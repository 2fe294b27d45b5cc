"""A Git host for tests: a bare repository that is written and read with plumbing, so that it needs no work tree."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ABSENT = "0" * 40  # the object id of nothing
PERSON = {
    "GIT_AUTHOR_NAME": "Test Person",
    "GIT_AUTHOR_EMAIL": "person@test.invalid",
    "GIT_COMMITTER_NAME": "Test Person",
    "GIT_COMMITTER_EMAIL": "person@test.invalid",
}


@dataclass(frozen=True)
class Commit:
    """One commit as `Remote.log` returns it; `body` holds the trailers."""

    sha: str
    subject: str
    body: str


@dataclass(frozen=True)
class Remote:
    """A bare repository at `path`."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Remote:
        """Makes an empty bare repository whose HEAD is `main`."""
        remote = cls(path)
        path.mkdir(parents=True)
        remote.git("init", "--quiet", "--bare", "--initial-branch=main", ".")
        return remote

    @property
    def url(self) -> str:
        """A file URL, as a server's settings would name it."""
        return self.path.as_uri()

    def commit(self, files: Mapping[str, str | bytes | None], message: str, branch: str = "main") -> str:
        """Commits on the tip of `branch`: new contents by path, or None to remove the file. Returns the commit's object id."""
        parent = self.tip(branch)
        with tempfile.TemporaryDirectory() as directory:
            index = {"GIT_INDEX_FILE": str(Path(directory) / "index")}
            if parent:
                self.git("read-tree", parent, env=index)
            entries = []
            for path, text in files.items():
                if text is None:
                    entries.append(f"0 {ABSENT}\t{path}")
                else:
                    content = text.encode() if isinstance(text, str) else text
                    entries.append(f"100644 {self.git('hash-object', '-w', '--stdin', stdin=content)}\t{path}")
            self.git("update-index", "-z", "--index-info", env=index, stdin="".join(f"{entry}\0" for entry in entries).encode())
            tree = self.git("write-tree", env=index)
        parents = ("-p", parent) if parent else ()
        sha = self.git("commit-tree", tree, *parents, "-m", message)
        self.move(branch, sha)
        return sha

    def commit_tree(self, directory: Path, message: str, branch: str = "main") -> str:
        """Commits every file below `directory`, such as the sample repository, on the tip of `branch`."""
        files = {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
        return self.commit(files, message, branch)

    def revert(self, sha: str, branch: str = "main") -> str:
        """A commit on the tip that puts back what `sha` changed. Later changes of the same files are overwritten."""
        changed = self.git("diff-tree", "--no-commit-id", "--name-only", "-r", sha).splitlines()
        before = set(self.git("ls-tree", "-r", "--name-only", f"{sha}^").splitlines())
        files = {path: self.show(f"{sha}^", path) if path in before else None for path in changed}
        return self.commit(files, f'Revert "{self.git("show", "--no-patch", "--format=%s", sha)}"', branch)

    def tip(self, branch: str) -> str | None:
        """The object id of the branch, or None when there is no such branch."""
        return self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}") or None

    def move(self, branch: str, sha: str | None) -> None:
        """Points the branch at any commit, as a forced push would; None deletes it."""
        if sha is None:
            self.git("update-ref", "-d", f"refs/heads/{branch}")
        else:
            self.git("update-ref", f"refs/heads/{branch}", sha)

    def branches(self) -> dict[str, str]:
        """Object ids by branch."""
        lines = self.git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads").splitlines()
        return dict(line.split(" ") for line in lines)

    def log(self, branch: str) -> list[Commit]:
        """The commits of the branch, the newest first; none when there is no such branch."""
        if self.tip(branch) is None:
            return []
        text = self.git("log", "--format=%H%x1f%s%x1f%b%x1e", f"refs/heads/{branch}", strip=False)
        return [Commit(*entry.strip("\n").split("\x1f")) for entry in text.split("\x1e") if entry.strip()]

    def show(self, revision: str, path: str) -> str:
        """A file's text at a branch or commit. Raises CalledProcessError when it is not there."""
        return self.git("show", f"{revision}:{path}", strip=False)

    def git(self, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes | None = None, strip: bool = True) -> str:
        """Runs git in the repository, away from the developer's own settings, and returns its output."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        result = subprocess.run(
            ["git", "-C", str(self.path), *arguments],
            check=True,
            capture_output=True,
            input=stdin or b"",
            timeout=60,
            env={**clean, **PERSON, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, **(env or {})},
        )
        text = result.stdout.decode()
        return text.strip() if strip else text
