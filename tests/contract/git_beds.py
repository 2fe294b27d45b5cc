"""A Git host with clones, twice: bare repositories reached over a path, and `tests.fakes`. Faults are asked for by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from reconciler.effects.git import GitRepository
from reconciler.effects.git_settings import GitSettings
from tests.effects.git_remotes import CONFIG, Content, Origin, git
from tests.fakes.git import FakeGit
from tests.fakes.git_host import Host, Outage, Verb

Clone = FakeGit | GitRepository


class GitBed(ABC):
    """One host. Branches are full names such as `status/lon1-a`; it starts with a first commit of `CONFIG` on `main`."""

    @abstractmethod
    def clone(self, name: str) -> Clone:
        """A server's clone, opened. The same name after `lost` is a fresh one."""

    @abstractmethod
    def restarted(self, name: str) -> Clone:
        """The clone as another start of the program finds it."""

    @abstractmethod
    def lost(self, name: str) -> Clone:
        """The server's disk was lost: a new clone under its name."""

    @abstractmethod
    def commit(
        self, files: Mapping[str, Content], message: str, *, branch: str = "main", orphan: bool = False, parent: str = ""
    ) -> str:
        """Somebody commits exactly these files."""

    @abstractmethod
    def merge(self, other: str) -> str:
        """Somebody merges a commit into `main`."""

    @abstractmethod
    def move(self, branch: str, sha: str | None) -> None:
        """Somebody forces a branch to a commit; None deletes it."""

    @abstractmethod
    def tip(self, branch: str = "main") -> str | None:
        """The branch's commit."""

    @abstractmethod
    def show(self, branch: str, path: str) -> bytes | None:
        """A file at the tip."""

    @abstractmethod
    def length(self, branch: str) -> int:
        """How many commits a branch has."""

    @abstractmethod
    def away(self) -> None:
        """Nobody reaches the host."""

    @abstractmethod
    def back(self) -> None:
        """The host answers."""

    @abstractmethod
    def answer_lost(self, applied: int, *, then_away: bool = False) -> None:
        """The next push breaks off after so many of its refs were moved; `then_away`: and nothing answers after it."""

    @abstractmethod
    def overtaken(self, branch: str, sha: str | None) -> None:
        """While the next push is on its way, somebody else moves the branch."""

    @abstractmethod
    def arrives(self, name: str, ref: str, sha: str) -> None:
        """A push of that clone that was thought lost comes through after all, to a status branch."""

    @property
    @abstractmethod
    def struck(self) -> bool:
        """Whether every push that was to be disturbed has been."""


class FakeBed(GitBed):
    """In memory."""

    def __init__(self, *, apart: bool = False) -> None:
        self._host = Host()
        self._status = Host(objects=self._host.objects) if apart else self._host
        self._host.commit(CONFIG, "Start")
        self._clones: dict[str, FakeGit] = {}
        self._away = False
        self._lost: tuple[int, bool] | None = None
        self._overtaker: tuple[str, str | None] | None = None

    def clone(self, name: str) -> Clone:
        if name not in self._clones:
            self._clones[name] = FakeGit(
                self._host,
                line=self._line if self._status is self._host else lambda verb: None,
                status_host=self._status,
                status_line=self._line,
            )
            self._clones[name].open()
        return self._clones[name]

    def restarted(self, name: str) -> Clone:
        self._clones[name].open()
        return self._clones[name]

    def lost(self, name: str) -> Clone:
        del self._clones[name]
        return self.clone(name)

    def _of(self, branch: str) -> Host:
        return self._status if branch.startswith("status/") else self._host

    def commit(
        self, files: Mapping[str, Content], message: str, *, branch: str = "main", orphan: bool = False, parent: str = ""
    ) -> str:
        return self._of(branch).commit(files, message, branch=branch, orphan=orphan, parent=parent)

    def merge(self, other: str) -> str:
        return self._host.merge(other)

    def move(self, branch: str, sha: str | None) -> None:
        self._of(branch).move(branch, sha)

    def tip(self, branch: str = "main") -> str | None:
        return self._of(branch).tip(branch)

    def show(self, branch: str, path: str) -> bytes | None:
        return self._of(branch).show(branch, path)

    def length(self, branch: str) -> int:
        return self._of(branch).length(branch)

    def away(self) -> None:
        self._away = True

    def back(self) -> None:
        self._away = False

    def answer_lost(self, applied: int, *, then_away: bool = False) -> None:
        self._lost = (applied, then_away)

    def overtaken(self, branch: str, sha: str | None) -> None:
        self._overtaker = (branch, sha)
        self._status.during = self._overtake

    def _overtake(self) -> None:
        if self._overtaker is not None:
            self.move(*self._overtaker)
            self._overtaker = None

    def arrives(self, name: str, ref: str, sha: str) -> None:
        self.move(f"status/{ref}", sha)

    @property
    def struck(self) -> bool:
        return self._lost is None and self._overtaker is None

    def _line(self, verb: Verb) -> Outage | None:
        if self._away:
            return Outage()
        if verb == "push" and self._lost is not None:
            (applied, self._away), self._lost = self._lost, None
            return Outage(applied=applied)
        return None


class RealBed(GitBed):
    """Bare repositories in a directory. A host that is away has been renamed; a push is disturbed by the host's own hooks."""

    def __init__(self, directory: Path, *, apart: bool = False) -> None:
        self._directory = directory
        self._host = Origin(directory / "host.git")
        self._status = Origin(directory / "status.git") if apart else self._host
        if apart:
            git(self._status.path, "update-ref", "-d", "refs/heads/main")
        self._away = directory / "away.git"
        self._count: dict[str, int] = {}

    def clone(self, name: str) -> Clone:
        status_url = self._status.url if self._status is not self._host else None
        found = GitRepository(self._path(name), GitSettings(url=self._host.url, status_url=status_url, timeout_s=20))
        found.open()
        return found

    def restarted(self, name: str) -> Clone:
        return self.clone(name)

    def lost(self, name: str) -> Clone:
        self._count[name] = self._count.get(name, 0) + 1
        return self.clone(name)

    def _path(self, name: str) -> Path:
        return self._directory / f"clone-{name}-{self._count.get(name, 0)}"

    def _of(self, branch: str) -> Origin:
        return self._status if branch.startswith("status/") else self._host

    def commit(
        self, files: Mapping[str, Content], message: str, *, branch: str = "main", orphan: bool = False, parent: str = ""
    ) -> str:
        return self._of(branch).commit(files, message, branch=branch, orphan=orphan, parent=parent)

    def merge(self, other: str) -> str:
        path, tip = self._host.path, self._host.tip() or ""
        identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
        sha = git(path, *identity, "commit-tree", f"{tip}^{{tree}}", "-p", tip, "-p", other, "-m", "Merge")
        self.move("main", sha)
        return sha

    def move(self, branch: str, sha: str | None) -> None:
        git(
            self._of(branch).path, "update-ref", *(("-d", f"refs/heads/{branch}") if sha is None else (f"refs/heads/{branch}", sha))
        )

    def tip(self, branch: str = "main") -> str | None:
        return self._of(branch).tip(branch)

    def show(self, branch: str, path: str) -> bytes | None:
        return git(self._of(branch).path, "show", f"refs/heads/{branch}:{path}").encode()

    def length(self, branch: str) -> int:
        return int(git(self._of(branch).path, "rev-list", "--count", f"refs/heads/{branch}"))

    def away(self) -> None:
        self._status.path.rename(self._away)

    def back(self) -> None:
        if self._away.exists():
            self._away.rename(self._status.path)

    def answer_lost(self, applied: int, *, then_away: bool = False) -> None:
        leave = f"mv '{self._status.path}' '{self._away}'; " if then_away else ""
        die = f"rm -f '{self._status.path}/left' hooks/pre-receive hooks/reference-transaction; {leave}kill -9 $PPID; exit 1"
        if applied == 0:
            self._hook("pre-receive", die)
            return
        # Called for each ref on its own, when it has been moved and the client does not know yet.
        (self._status.path / "left").write_text(f"{applied}\n")
        self._hook(
            "reference-transaction",
            f'[ "$1" = committed ] || exit 0\ngrep -q refs/heads/status/ || exit 0\nleft=$(($(cat left) - 1))\necho $left >left\n'
            f'[ "$left" -gt 0 ] || {{ {die}; }}',
        )

    def overtaken(self, branch: str, sha: str | None) -> None:
        change = f"git update-ref refs/heads/{branch} {sha}" if sha else f"git update-ref -d refs/heads/{branch}"
        self._hook("pre-receive", f"unset GIT_QUARANTINE_PATH\nrm -f hooks/pre-receive\n{change}")

    def arrives(self, name: str, ref: str, sha: str) -> None:
        git(self._path(name), "push", "--quiet", self._status.url, f"{sha}:refs/heads/status/{ref}")

    @property
    def struck(self) -> bool:
        self.back()
        return not [hook for hook in (self._status.path / "hooks").iterdir() if hook.suffix != ".sample"]  # each removes itself

    def _hook(self, name: str, script: str) -> None:
        file = self._status.path / "hooks" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
