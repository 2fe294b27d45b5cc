"""Small durable files in the state directory, and the lock that keeps a second process out."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from reconciler.errors import Stalled, Transient


class Journal:
    """Files directly below `directory`. A write is a temporary file, synced, renamed, with the directory synced after it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Stalled(f"the state directory {directory} cannot be made: {error.strerror}", reason="StateDirectory") from error

    def read(self, name: str) -> bytes | None:
        """The content; None when there is no such file. Raises Transient when it cannot be read."""
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Transient(f"{self._directory / name} cannot be read: {error.strerror}") from error

    def write(self, name: str, data: bytes) -> None:
        """Replace the content, durably. Raises Transient when the disk does not take it; the old content then stands."""
        path = self._directory / name
        temporary = path.with_name(f".{name}.new")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise Transient(f"{path} cannot be written: {error.strerror}") from error


class StateLock:
    """One process per state directory. The lock goes with the process, however it ends."""

    def __init__(self, directory: Path, purpose: str) -> None:
        """Take it. Raises Stalled, naming who has it, when somebody else does."""
        directory.mkdir(parents=True, exist_ok=True)
        self._file = open(directory / "lock", "a+b")  # noqa: SIM115 - held open for as long as the lock is
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read(200).decode(errors="replace").strip() or "another process"
            self._file.close()
            raise Stalled(
                f"{directory} is in use by {holder}; only one reconciler may run per state directory: stop that one first",
                reason="Locked",
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"pid {os.getpid()} ({purpose})".encode())
        self._file.flush()

    def release(self) -> None:
        """Let the next one in."""
        self._file.close()
