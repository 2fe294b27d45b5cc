"""The only door to subprocesses: argument lists, a deadline, bounded output, no secrets.

A program gets its own session. Whatever of that session is left when it ends, fails or runs out of time is killed, so nothing
can go on holding a pipe, a lock or a connection, and `run` returns by its deadline even if something did leave the session.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import ReconcilerError, Transient

STDOUT_LIMIT = 64 * 1024 * 1024
TAIL_BYTES = 8 * 1024
_CHUNK = 64 * 1024
_REAP_S = 5.0

_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@'\"]+@")
_AUTHORIZATION = re.compile(r"(authorization:\s*\w+\s+)\S+", re.IGNORECASE)


class Failed(ReconcilerError):
    """A program could not be started, said too much, or ended with a code other than 0 where 0 was required."""


class TimedOut(Transient):
    """A program did not end in time; it and its whole session were killed. What it did before is unknown."""


@dataclass(frozen=True)
class Completed:
    """A program that ended. `code` is its exit code, negative for a signal; `stdout` is whole and not redacted (it is data).

    `stderr_tail` is the end of its standard error: redacted, printable, for people. `seconds` is how long it took.
    """

    program: str
    code: int
    stdout: bytes = field(repr=False)
    stderr_tail: str
    seconds: float

    def require(self) -> Completed:
        """Itself, if the code is 0. Raises Failed with the end of standard error otherwise."""
        if self.code == 0:
            return self
        ended = f"was ended by signal {-self.code}" if self.code < 0 else f"ended with code {self.code}"
        raise Failed(f"{self.program} {ended}: {self.stderr_tail.strip() or 'it said nothing'}")


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    input: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    redact: Sequence[str] = (),
    stdout_limit: int = STDOUT_LIMIT,
    tail_bytes: int = TAIL_BYTES,
) -> Completed:
    """Run a program to its end and return what it said, whatever its exit code.

    `timeout` is in seconds. `env` replaces the environment (None: ours is inherited). `redact` are secrets: they are blotted out
    of every message, and one found in `argv` is refused with ValueError, since every user of the machine can list arguments.
    Raises TimedOut, or Failed if the program cannot be started or writes more than `stdout_limit` bytes.
    """
    if any(secret and secret in argument for secret in redact for argument in argv):
        raise ValueError(f"a secret stands in the arguments of {argv[0]}: hand it over by environment, file or input")
    program = _shown(argv, redact)
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if env is None else dict(env),
            cwd=cwd,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise Failed(f"cannot start {program}: {error.strerror}; is it installed and allowed to run?") from error
    exchange = _Exchange(input, stdout_limit, keep=tail_bytes + max(map(len, redact), default=0) + _CHUNK)
    try:
        ended = _talk(process, exchange, started + timeout)
    finally:
        reaped = _end(process)
    tail = _tail(exchange, redact, tail_bytes)
    if exchange.overflow:
        raise Failed(f"{program} wrote more than {stdout_limit} bytes and was ended; make what it reads smaller")
    if not ended or not reaped:
        said = tail.strip().splitlines()
        raise TimedOut(f"{program} did not end within {timeout:g} s and was killed; it said: {said[-1] if said else 'nothing'}")
    return Completed(program, process.returncode, bytes(exchange.stdout), tail, time.monotonic() - started)


def redacted(text: str, secrets: Sequence[str] = ()) -> str:
    """`text` without the given secrets, without user and password in URLs, and with control characters made visible."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _AUTHORIZATION.sub(r"\1***", _USERINFO.sub(r"\1***@", text))
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class _Exchange:
    """The bytes of one run: what is still to be written, all of stdout up to its limit, the end of stderr."""

    def __init__(self, input: bytes, stdout_limit: int, keep: int) -> None:
        self.pending = memoryview(input)
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.overflow = False
        self.cut = False
        self._stdout_limit = stdout_limit
        self._keep = keep

    def add_stdout(self, data: bytes) -> None:
        self.stdout += data
        self.overflow = len(self.stdout) > self._stdout_limit

    def add_stderr(self, data: bytes) -> None:
        self.stderr += data
        if len(self.stderr) > 2 * self._keep:
            del self.stderr[: -self._keep]
            self.cut = True


def _talk(process: subprocess.Popen[bytes], exchange: _Exchange, deadline: float) -> bool:
    """Exchange bytes until the program has ended. False: the deadline passed, or it said too much."""
    assert process.stdin and process.stdout and process.stderr
    inward, outward, errors = process.stdin.fileno(), process.stdout.fileno(), process.stderr.fileno()
    ended = os.pidfd_open(process.pid)
    readers = {outward: exchange.add_stdout, errors: exchange.add_stderr}
    with selectors.DefaultSelector() as selector:
        try:
            for descriptor in readers:
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ)
            os.set_blocking(inward, False)
            selector.register(inward, selectors.EVENT_WRITE)
            selector.register(ended, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and not exchange.overflow:
                ready = {key.fd for key, _ in selector.select(left)}
                if inward in ready and _written(inward, exchange):
                    selector.unregister(inward)
                    process.stdin.close()
                for descriptor in ready & readers.keys():
                    if _read(descriptor, readers[descriptor]) is None:
                        selector.unregister(descriptor)
                if ended in ready:
                    # Its last words are in the pipes, which hold one chunk. Who else has them open is not waited for.
                    for descriptor, add in readers.items():
                        any(not _read(descriptor, add) for _ in range(4))
                    return not exchange.overflow
        finally:
            os.close(ended)
    return False


def _written(descriptor: int, exchange: _Exchange) -> bool:
    """Write some of the input. True: there is no more to write, or nobody to read it."""
    try:
        if exchange.pending:
            exchange.pending = exchange.pending[os.write(descriptor, exchange.pending[:_CHUNK]) :]
    except BlockingIOError:
        return False
    except OSError:
        return True
    return not exchange.pending


def _read(descriptor: int, add: Callable[[bytes], None]) -> bool | None:
    """Read once. True: got bytes; False: none at the moment; None: the other end is closed."""
    try:
        data = os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return False
    if not data:
        return None
    add(data)
    return True


def _end(process: subprocess.Popen[bytes]) -> bool:
    """Kill what is left of the session and reap the program. False: it cannot be reaped (stuck in the kernel).

    The program has not been waited for yet, so its id, which is the group's, cannot belong to anybody else.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    try:
        process.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _tail(exchange: _Exchange, secrets: Sequence[str], tail_bytes: int) -> str:
    """The end of stderr. Redaction comes before the cut, and a first line that lost its beginning is left out whole."""
    text = bytes(exchange.stderr).decode(errors="replace")
    if exchange.cut:
        text = text.partition("\n")[2]
    return redacted(text, secrets)[-tail_bytes:]


def _shown(argv: Sequence[str], secrets: Sequence[str]) -> str:
    text = redacted(shlex.join(argv), secrets)
    return text if len(text) <= 160 else f"{text[:157]}..."
