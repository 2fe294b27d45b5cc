"""The load generator's clients on raw TCP and websockets. What counts as failed: see `load_clients`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import struct
import time

from load_clients import AFTER_FAILURE, FAILURES, Count, Running, Target, Wrong, took, words

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
COMES_BACK = (1001, 1012)
CONNECTIONS = 3
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def tcp(target: Target, running: Running, count: Count, port: int, send: bytes, expect: bytes, exchanges: int) -> None:
    """Raw TCP to 127.0.0.1:`port`: so many exchanges on one connection; 0: until the other side closes it between two."""
    streams: Streams | None = None
    done = 0
    while running.another(count):
        started = time.monotonic()
        try:
            async with asyncio.timeout(target.timeout):
                if streams is not None and streams[0].at_eof():
                    count.reconnects += 1
                    _closed(streams)
                    streams = None
                if streams is None:
                    streams, done = await asyncio.open_connection("127.0.0.1", port), 0
                streams[1].write(send)
                got = await streams[0].readexactly(len(expect))
                if got != expect:
                    raise Wrong(f"answered {got!r}, expected {expect!r}")
                done += 1
                if exchanges and done >= exchanges:
                    _closed(streams)
                    streams = None
            took(count, started)
        except FAILURES as error:
            count.fail(f"127.0.0.1:{port}: {words(error)}")
            _closed(streams)
            streams = None
            await running.wait(AFTER_FAILURE)
        await running.wait(target.pause)
    _closed(streams)


async def websocket(target: Target, running: Running, count: Count, path: str) -> None:
    """Messages that have to come back, one after the other; comes again when the server says that it restarts."""
    numbers = itertools.count()
    streams: Streams | None = None
    while running.another(count):
        message = f"message {next(numbers)} {os.urandom(8).hex()}".encode()
        started = time.monotonic()
        try:
            for _ in range(CONNECTIONS):
                async with asyncio.timeout(target.timeout):
                    if streams is None:
                        streams = await _open_websocket(target, path)
                    streams[1].write(_frame(TEXT, message))
                    if await _echoed(streams[0], streams[1], message):
                        break
                count.reconnects += 1
                count.resent += 1
                _closed(streams)
                streams = None
            else:
                raise Wrong(f"no echo on {CONNECTIONS} connections, each of which the server closed")
            took(count, started)
        except FAILURES as error:
            count.fail(f"websocket {path}: {words(error)}")
            _closed(streams)
            streams = None
            await running.wait(AFTER_FAILURE)
        streams = await _quiet(streams, running, count, max(target.pause, 0.02), f"websocket {path}")
    if streams is not None:
        with contextlib.suppress(OSError):
            streams[1].write(_frame(CLOSE, struct.pack("!H", 1000)))
            await streams[1].drain()
    _closed(streams)


# --- websockets (RFC 6455)


async def _open_websocket(target: Target, path: str) -> Streams:
    reader, writer = await asyncio.open_connection(target.address, target.port)
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET {path} HTTP/1.1\r\nHost: {target.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    first = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[0]
    if " 101 " not in f"{first} ":
        writer.close()
        raise Wrong(f"the upgrade was answered {first!r}")
    return reader, writer


async def _echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> bool:
    """True: the echo is there. False: the server said that it restarts. Raises Wrong and what the connection raises."""
    while True:
        try:
            opcode, payload = await _read_frame(reader)
        except asyncio.IncompleteReadError as error:
            raise Wrong("the connection ended without a close frame") from error
        if opcode == PING:
            writer.write(_frame(PONG, payload))
        elif opcode == CLOSE:
            _accept_close(writer, payload)
            return False
        elif payload != message:
            raise Wrong(f"got {payload[:60]!r} instead of {message!r}")
        else:
            return True


async def _quiet(streams: Streams | None, running: Running, count: Count, seconds: float, what: str) -> Streams | None:
    """The time between two messages, in which the server may say goodbye. Returns the connection if it is still there."""
    if streams is None:
        await running.wait(seconds)
        return None
    reader, writer = streams
    try:
        first = await asyncio.wait_for(reader.readexactly(1), seconds)
    except TimeoutError:
        return streams
    except FAILURES:
        count.fail(f"{what}: the connection ended without a close frame")
        _closed(streams)
        return None
    try:
        async with asyncio.timeout(5):
            opcode, payload = await _read_frame(reader, first)
        if opcode == CLOSE:
            _accept_close(writer, payload)
            count.reconnects += 1
            _closed(streams)
            return None
        if opcode == PING:
            writer.write(_frame(PONG, payload))
    except FAILURES as error:
        count.fail(f"{what}: {words(error)}")
        _closed(streams)
        return None
    return streams


def _accept_close(writer: asyncio.StreamWriter, payload: bytes) -> None:
    code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else None
    writer.write(_frame(CLOSE, payload[:2]))
    if code not in COMES_BACK:
        raise Wrong(f"the server closed with {code or 'no code'}; only {COMES_BACK} ask for coming back")


async def _read_frame(reader: asyncio.StreamReader, first: bytes = b"") -> tuple[int, bytes]:
    head = first + await reader.readexactly(2 - len(first))
    length = head[1] & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", await reader.readexactly(8))
    return head[0] & 0x0F, await reader.readexactly(length)


def _frame(opcode: int, payload: bytes) -> bytes:
    """One masked frame of less than 126 bytes, as a client sends it."""
    mask = os.urandom(4)
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def _closed(streams: Streams | None) -> None:
    if streams is not None:
        streams[1].close()
