"""The bare clone as files: made, cleaned and repaired without asking git. It is a cache and may vanish at any time.

Who calls this holds the state directory's lock. So there is no other live daemon, every lock file in the clone is left over,
and a git process that still works in it is an orphan of a killed daemon.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from reconciler.effects.git_settings import OWNER_VARIABLE

ROOT = "refs/reconciler/"
CONFIG = ROOT + "config"
STATUS = ROOT + "status/"
KEPT = ROOT + "kept/"
PUSHED = ROOT + "pushed/"
SEEN = ROOT + "seen"

_HEAD = b"ref: refs/heads/none\n"
_REF = re.compile(rb"^[0-9a-f]{40}\n?$")
_PACKED = re.compile(r"^([0-9a-f]{40}) (refs/\S+)$")
_LITTER = re.compile(r"^(tmp_.*|\.tmp-.*|incoming-.*|.*\.keep)$")
_ORPHANS_END_S = 3.0
_CLEAN_LOOKS = 2  # one look may fall into the instant in which a process is being replaced and has no environment


class Clone:
    """A bare clone at `path`, with two remotes, `config` and `status`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects = path / "objects"
        self._damaged = path / "damaged"

    def prepare(self, urls: Mapping[str, str]) -> None:
        """Make the clone, or put right what can be put right: layout, HEAD, configuration, left-overs. Raises OSError.

        `urls` by name of remote. If one differs from the recorded one, what was known about the remotes is forgotten.
        """
        spare, old = self.sibling("new"), self.sibling("old")
        end_orphans((self.path, spare))
        if old.exists() and not self.path.exists():
            old.rename(self.path)
        for left in (spare, old):
            shutil.rmtree(left, ignore_errors=True)
        if self.path.exists() and not self.path.is_dir():
            self.path.unlink()
        if not self.path.exists():
            fresh = Clone(spare)
            fresh.lay_out(urls)
            spare.rename(self.path)
        self.lay_out(urls)
        self.clear_left_overs()
        self._drop_broken_refs()

    def lay_out(self, urls: Mapping[str, str]) -> None:
        """Make every directory and file that a bare repository needs; forget the remotes' refs if a URL is another one."""
        for name in ("objects/pack", "objects/info", "refs/heads"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        (self.path / "objects" / "info" / "alternates").unlink(missing_ok=True)
        _put(self.path / "HEAD", _HEAD)
        config = _config(urls)
        file = self.path / "config"
        before = file.read_bytes() if file.is_file() else b""
        if _urls(before) != _urls(config):
            for name in self.refs():
                if not name.startswith(KEPT):
                    self._forget(name)
        _put(file, config)

    def sibling(self, suffix: str) -> Path:
        """The place beside the clone for one in the making (`new`) or one on its way out (`old`)."""
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def mark_damaged(self) -> None:
        """Remember, over restarts, that an object could not be read, so that the next fetch makes the clone anew."""
        with suppress(OSError):
            self._damaged.touch()

    @property
    def damaged(self) -> bool:
        """True if the clone has to be made anew. A shallow clone lacks history and is none of our making."""
        return self._damaged.exists() or (self.path / "shallow").exists()

    def replace_with(self, fresh: Clone) -> None:
        """Put `fresh` in the clone's place. Killed in between, `prepare` finds one of the two."""
        old = self.sibling("old")
        shutil.rmtree(old, ignore_errors=True)
        self.path.rename(old)
        fresh.path.rename(self.path)
        shutil.rmtree(old, ignore_errors=True)

    @property
    def complete(self) -> bool:
        """False if git would not recognise it, or could not even be started in it."""
        files, directories = ("HEAD", "config"), ("objects/pack", "refs")
        return all((self.path / n).is_file() for n in files) and all((self.path / n).is_dir() for n in directories)

    def clear_left_overs(self) -> bool:
        """Remove lock files and half-written packs (FAULTS 31, 37). True: there was a lock."""
        locks = False
        for directory, subdirectories, files in os.walk(self.path, topdown=True):
            for name in [name for name in subdirectories if _LITTER.match(name)]:
                subdirectories.remove(name)
                shutil.rmtree(Path(directory, name), ignore_errors=True)
            for name in files:
                is_lock = name.endswith(".lock") or name == "gc.pid"
                if is_lock or (_LITTER.match(name) and "objects" in directory):
                    Path(directory, name).unlink(missing_ok=True)
                    locks = locks or is_lock
        return locks

    def refs(self, prefix: str = ROOT) -> dict[str, str]:
        """Every ref below `prefix` by its full name, read without git. Broken ones are left out."""
        found: dict[str, str] = {}
        with suppress(FileNotFoundError):
            for line in (self.path / "packed-refs").read_text(errors="replace").splitlines():
                if (match := _PACKED.match(line)) and match[2].startswith(prefix):
                    found[match[2]] = match[1]
        for name, content in self._loose_refs():
            if name.startswith(prefix) and _REF.match(content):
                found[name] = content.strip().decode()
        return found

    def _loose_refs(self) -> Iterator[tuple[str, bytes]]:
        for directory, _, files in os.walk(self.path / "refs"):
            for name in files:
                if not name.endswith(".lock"):
                    file = Path(directory, name)
                    yield file.relative_to(self.path).as_posix(), file.read_bytes()

    def _drop_broken_refs(self) -> None:
        """Zero-length and garbled refs, as a power failure leaves them, stop every fetch; the next one brings them back."""
        for name, content in list(self._loose_refs()):
            if not _REF.match(content):
                (self.path / name).unlink()
        packed = self.path / "packed-refs"
        if packed.exists():
            lines = packed.read_text(errors="replace").splitlines()
            if not all(line.startswith(("#", "^")) or _PACKED.match(line) for line in lines):
                packed.unlink()

    def _forget(self, ref: str) -> None:
        (self.path / ref).unlink(missing_ok=True)
        packed = self.path / "packed-refs"
        if packed.exists():
            lines = packed.read_text(errors="replace").splitlines(keepends=True)
            _put(packed, "".join(line for line in lines if line.split()[-1:] != [ref]).encode())


def end_orphans(clones: tuple[Path, ...], patience: float = _ORPHANS_END_S) -> None:
    """Wait for git processes that a killed daemon left working in `clones`; after `patience` seconds kill them."""
    marks = {f"{OWNER_VARIABLE}={clone}".encode() for clone in clones}
    deadline = time.monotonic() + patience
    clean = 0
    while clean < _CLEAN_LOOKS:
        orphans = [pid for pid in _processes() if marks.intersection(_environment(pid))]
        clean = 0 if orphans else clean + 1
        if orphans and time.monotonic() > deadline:
            for pid in orphans:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline + patience:
                raise OSError(f"process {orphans[0]} of an earlier run still works in {clones[0]} and cannot be killed")
        time.sleep(0.01)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _environment(pid: int) -> list[bytes]:
    """The environment with which a process was started; empty for a zombie or somebody else's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _config(urls: Mapping[str, str]) -> bytes:
    lines = ["[core]", "\trepositoryformatversion = 0", "\tbare = true", "[uploadpack]", "\tallowAnySHA1InWant = true"]
    for name, url in sorted(urls.items()):
        quoted = url.replace("\\", "\\\\").replace('"', '\\"')
        lines += [f'[remote "{name}"]', f'\turl = "{quoted}"']
    return "\n".join([*lines, ""]).encode()


def _urls(config: bytes) -> list[bytes]:
    return [line for line in config.splitlines() if line.startswith((b"[remote", b"\turl"))]


def _put(file: Path, content: bytes) -> None:
    """Write a file whole or not at all, unless it says that already."""
    if file.is_file() and not file.is_symlink() and file.read_bytes() == content:
        return
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    temporary = file.with_name(f".tmp-{file.name}")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
