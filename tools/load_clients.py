"""The clients of the load generator: here HTTP, in `load_sockets` raw TCP and websockets.

Each goes on until it is told to stop, and then finishes what it has begun. Failed is: a refused or reset connection, an end before
the whole answer, a status other than 2xx, a wrong body, no answer within `timeout`, a websocket that ends otherwise than with a
close frame 1012 (service restart) or 1001 (going away), and a websocket message without its echo. Not failed, but counted as
`reconnects`: a keep-alive connection that the server closed before the client sent anything on it (RFC 9112 section 9.3.1), and
those two close codes. A message that was on its way when such a close frame came is sent again on the new connection, and counted
as `resent`. Nothing else is ever tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

ERRORS_KEPT = 5
SEEN_KEPT = 20
AFTER_FAILURE = 0.05
PIECES = 40


@dataclass
class Count:
    """One kind of request. `slowest_ms`: the longest time from sending to the whole answer."""

    sent: int = 0
    failed: int = 0
    reconnects: int = 0
    resent: int = 0
    slowest_ms: float = 0.0
    errors: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(kinds: dict[str, Count], kind: str) -> Count:
        """The counter of this kind; clients of one kind share it."""
        return kinds.setdefault(kind, Count())

    def fail(self, error: str) -> None:
        self.failed += 1
        if len(self.errors) < ERRORS_KEPT:
            self.errors.append(f"{time.strftime('%H:%M:%S')} {error}")

    def saw(self, value: str) -> None:
        if value in self.seen or len(self.seen) < SEEN_KEPT:
            self.seen[value] = self.seen.get(value, 0) + 1


@dataclass(frozen=True)
class Target:
    """Where requests go. `host`: the Host header. Seconds."""

    address: str
    port: int
    host: str
    timeout: float
    pause: float
    seen: re.Pattern[str] | None


def target(url: str, host: str, *, timeout: float, pause: float, seen: str) -> Target:
    """From a plan's words."""
    parts = urlsplit(url)
    pattern = re.compile(seen) if seen else None
    return Target(parts.hostname or "", parts.port or 80, host or parts.netloc, timeout, pause, pattern)


class Running:
    """Whether to send another one; counts against the bound on all requests."""

    def __init__(self, stop: asyncio.Event, most: int) -> None:
        self._stop = stop
        self._left = most

    @property
    def exhausted(self) -> bool:
        return self._left <= 0

    def another(self, count: Count) -> bool:
        """True: send one; it is counted as sent."""
        if self._stop.is_set() or self.exhausted:
            return False
        self._left -= 1
        count.sent += 1
        return True

    @property
    def stopped(self) -> bool:
        return self._stop.is_set() or self.exhausted

    async def wait(self, seconds: float) -> None:
        """At most `seconds`; less when it is time to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Wrong(Exception):
    """An answer that is not what it should be."""


FAILURES = (OSError, EOFError, TimeoutError, Wrong, ValueError, IndexError, asyncio.LimitOverrunError)


class Http:
    """One keep-alive connection at a time."""

    def __init__(self, target: Target, count: Count) -> None:
        self._target = target
        self._count = count
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: Iterable[bytes] = (), *, length: int = 0, over: float = 0.0) -> Answer:
        """Send one request; its body in pieces spread over `over` s. Raises one of FAILURES."""
        async with asyncio.timeout(self._target.timeout + over):
            reader, writer = await self._connected()
            head = f"{method} {path} HTTP/1.1\r\nHost: {self._target.host}\r\nUser-Agent: load\r\n"
            head += f"Content-Length: {length}\r\n\r\n" if method == "POST" else "\r\n"
            writer.write(head.encode())
            pieces = list(body)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if over:
                    await asyncio.sleep(over / len(pieces))
                    if reader.at_eof():
                        break  # the server gave up: what it said stands below
            answer = await _read_answer(reader)
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            self._count.reconnects += 1
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._target.address, self._target.port)
        return self._streams


async def get(target: Target, running: Running, count: Count, path: str) -> None:
    """GET after GET on a keep-alive connection."""
    http = Http(target, count)
    while running.another(count):
        async with _attempt(count, http, running):
            answer = await http.request("GET", path)
            _check(answer, f"GET {path}", count, target)
        await running.wait(target.pause)
    http.close()


async def post(target: Target, running: Running, count: Count, path: str, size: int, echo: bool) -> None:
    """POST after POST on a keep-alive connection, each with another body."""
    http = Http(target, count)
    while running.another(count):
        body = os.urandom(size)
        async with _attempt(count, http, running):
            answer = await http.request("POST", path, [body], length=size)
            _check(answer, f"POST {path}", count, target)
            if echo:
                _check_echo(answer, body)
        await running.wait(target.pause)
    http.close()


async def upload(target: Target, running: Running, count: Count, path: str, size: int, seconds: float, echo: bool) -> None:
    """A body that takes `seconds` to send, on a connection of its own."""
    while running.another(count):
        http = Http(target, count)
        body = os.urandom(size)
        step = max(1, -(-size // PIECES))
        async with _attempt(count, http, running, over=seconds):
            pieces = [body[at : at + step] for at in range(0, size, step)]
            answer = await http.request("POST", path, pieces, length=size, over=seconds)
            _check(answer, f"slow POST {path}", count, target)
            if echo:
                _check_echo(answer, body)
        http.close()
        await running.wait(target.pause)


# --- HTTP


@contextlib.asynccontextmanager
async def _attempt(count: Count, http: Http, running: Running, over: float = 0.0) -> AsyncIterator[None]:
    started = time.monotonic() + over
    try:
        yield
        took(count, started)
    except FAILURES as error:
        count.fail(words(error))
        http.close()
        await running.wait(AFTER_FAILURE)


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = await reader.read() if headers.get("connection", "").lower() == "close" else b""
    return Answer(int(first.split(" ")[1]), headers, body)


def _check(answer: Answer, what: str, count: Count, target: Target) -> None:
    if not 200 <= answer.status <= 299:
        raise Wrong(f"{what}: status {answer.status}: {answer.body[:120].decode(errors='replace').strip()!r}")
    if target.seen is not None and (found := target.seen.search(answer.body[:4096].decode(errors="replace"))):
        count.saw(found.group(1))


def _check_echo(answer: Answer, body: bytes) -> None:
    told = json.loads(answer.body)
    digest = hashlib.sha256(body).hexdigest()
    if told.get("length") != len(body) or told.get("sha256") != digest:
        raise Wrong(f"the body arrived as {told.get('length')} bytes {told.get('sha256')}, sent were {len(body)} bytes {digest}")


# --- small parts


def took(count: Count, started: float) -> None:
    """Note how long it was, from `started` on the monotonic clock."""
    count.slowest_ms = max(count.slowest_ms, round((time.monotonic() - started) * 1000, 1))


def words(error: BaseException) -> str:
    """An error as a line of the report."""
    if isinstance(error, asyncio.IncompleteReadError):
        return f"the connection ended in the middle of an answer ({len(error.partial)} bytes of it had come)"
    return f"{type(error).__name__}: {error}" if not isinstance(error, Wrong) else str(error)
