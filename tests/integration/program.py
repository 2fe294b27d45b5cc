"""The program as a child process, as systemd or a person starts it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.integration.server import Server, environment
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
ENTRY = (sys.executable, "-c", "from reconciler.cli import main; main()")


class Program:
    """One run of `reconcile` for a server of the tests. What it says goes to a file of its own."""

    def __init__(
        self,
        server: Server,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        entry: tuple[str, ...] = ENTRY,
        log: str = "log",
    ) -> None:
        self._log = server.directory / f"{time.monotonic_ns()}.{log}"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [*entry, *arguments],
                cwd=ROOT,
                env={**environment(server), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def said(self) -> str:
        """Everything it has said."""
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float = 90.0) -> int:
        """Its exit code, negative for a signal. Fails when it has not ended in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s; it said:\n{self.said[-4000:]}") from None

    def says(self, text: str, seconds: float = 60.0) -> None:
        """Waits until it has said that."""
        eventually(lambda: text in self.said, seconds, lambda: f"the program to say {text!r}; it said:\n{self.said[-4000:]}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.running:
            self.process.kill()
        self.process.wait(30)
