"""The secrets of services on this server: files in `/local/<project>/<env>/secrets`, never in Git.

Only a keyed hash of them leaves this module, so that a status commit tells that a secret changed and nothing of what it is.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from reconciler.errors import Stalled, Transient
from reconciler.model.identity import ServiceKey

_KEY_BYTES: Final = 32
_FILE_LIMIT: Final = 1024 * 1024
_HIDDEN: Final = "[secret]"
_SHORTEST_HIDDEN: Final = 4  # a shorter value would blot out ordinary words


def machine_key(path: Path) -> bytes:
    """The random key of this machine, made at the first call, readable by its owner alone. Raises Stalled when it is damaged."""
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as new:
            new.write(secrets.token_bytes(_KEY_BYTES))
            new.flush()
            os.fsync(new.fileno())
    except FileExistsError:
        pass
    except OSError as error:
        raise Transient(f"the key for secrets cannot be made at {path}: {error.strerror}") from error
    key = path.read_bytes()
    if len(key) < _KEY_BYTES:
        raise Stalled(f"{path} has {len(key)} bytes, expected {_KEY_BYTES}: remove it, a new one is made", reason="SecretsKey")
    return key


@dataclass
class SecretsDirectory:
    """`local_dir`/<project>/<env>/secrets/<name>. `key` is `machine_key`'s. Contents are kept nowhere, only their hashes."""

    local_dir: Path
    key: bytes = field(repr=False)
    _seen: dict[Path, tuple[tuple[int, ...], str]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def digests(self, wanted: Mapping[ServiceKey, tuple[str, ...]]) -> Mapping[str, str]:
        """Service -> keyed hash over names, modes and contents of the secrets that it names. Services without any are left out.

        A secret that is missing counts as such: its coming is a change. Raises Stalled for one that must not be read.
        """
        return {str(service): self._digest(service, names) for service, names in wanted.items() if names}

    def missing(self, wanted: Mapping[ServiceKey, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        """Service -> the names among its secrets that have no file here. Services that miss none are left out."""
        found = {
            str(service): tuple(name for name in names if self._status(self._path(service, name)) is None)
            for service, names in wanted.items()
        }
        return {service: names for service, names in found.items() if names}

    def redact(self, service: ServiceKey, names: tuple[str, ...], lines: tuple[str, ...]) -> tuple[str, ...]:
        """The lines without any of the secrets that the service can read, for a log that goes into a status."""
        values: set[str] = set()
        for name in names:
            path = self._path(service, name)
            if self._status(path) is not None:
                text = _read(path).decode(errors="replace")
                values |= {part for part in (text.strip(), *map(str.strip, text.splitlines())) if len(part) >= _SHORTEST_HIDDEN}
        for value in sorted(values, key=len, reverse=True):
            lines = tuple(line.replace(value, _HIDDEN) for line in lines)
        return lines

    def _digest(self, service: ServiceKey, names: tuple[str, ...]) -> str:
        total = hmac.new(self.key, digestmod=hashlib.sha256)
        for name in sorted(set(names)):
            total.update(f"{name}\0{self._of(self._path(service, name))}\0".encode())
        return total.hexdigest()[:32]

    def _of(self, path: Path) -> str:
        status = self._status(path)
        if status is None:
            return "missing"
        same = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev, status.st_mode)
        with self._lock:
            seen = self._seen.get(path)
        if seen is not None and seen[0] == same:
            return seen[1]
        content = hmac.new(self.key, _read(path), hashlib.sha256).hexdigest()
        value = f"{stat.S_IMODE(status.st_mode):o}\0{content}"
        with self._lock:
            self._seen[path] = (same, value)
        return value

    def _path(self, service: ServiceKey, name: str) -> Path:
        directory = self.local_dir / service.project / service.env / "secrets"
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise Stalled(f"{service}: {name!r} is not the name of a secret: name a file in {directory}", reason="SecretName")
        return directory / name

    def _status(self, path: Path) -> os.stat_result | None:
        """Of the file itself; None when there is none. A link may lead to another file of the same directory, as `..data` does."""
        try:
            if not path.resolve(strict=True).is_relative_to(path.parent.resolve(strict=True)):
                raise Stalled(f"secret {path} is a link out of its directory: put the file itself there", reason="SecretLink")
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, RuntimeError) as error:
            raise Transient(f"secret {path} cannot be looked at: {getattr(error, 'strerror', None) or 'it is a loop'}") from error
        if not stat.S_ISREG(status.st_mode):
            raise Stalled(f"secret {path} is not a regular file: put one there", reason="SecretKind")
        if status.st_size > _FILE_LIMIT:
            raise Stalled(f"secret {path} has {status.st_size} bytes, expected at most {_FILE_LIMIT}", reason="SecretSize")
        return status


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Transient(f"secret {path} cannot be read: {error.strerror}") from error
