"""The test application: one process of the standard library whose faults are chosen by environment variables.

Serves HTTP on PORT (8080) and, with TCP_PORT, a raw TCP echo. The environment is read once at the start:

    VERSION          shown by `/` ("1")           START_DELAY      seconds before anything listens
    FAIL_HEALTH=1    `/up` answers 500            CRASH_AFTER      seconds until it exits 3
    HANG_HEALTH=1    `/up` never answers          IGNORE_TERM=1    SIGTERM does nothing
    FLAP_HEALTH=N    every Nth `/up` answers 500  LEAK_MB          megabytes kept for each request to `/`
    NO_LISTEN=1      runs, but listens nowhere    DRAIN_SECONDS    longest wait for open requests at SIGTERM (30)
    DIE_IF_EXISTS    path: exits 4 when it exists EXIT_AT_START    exits with this code at once

On SIGTERM it stops listening, sends close 1012 ("service restart") to every websocket, answers what is in flight, exits 0.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

IDLE_SECONDS = 75.0
LIMIT_HEADER = 65536
LISTED = ("DB_", "CACHE_", "API_", "WEB_", "BACKEND_")
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
SERVICE_RESTART = 1012


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    reader: asyncio.StreamReader

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    def query(self, name: str, default: str = "") -> str:
        return parse_qs(urlsplit(self.target).query).get(name, [default])[0]

    async def body(self) -> AsyncIterator[bytes]:
        """The body in pieces, by Content-Length or in chunks."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self.reader.readline()).split(b";")[0], 16):
                yield await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readline()
            return
        left = int(self.headers.get("content-length", "0"))
        while left:
            piece = await self.reader.read(min(left, 65536))
            if not piece:
                raise ConnectionError("the client went away in the middle of a body")
            left -= len(piece)
            yield piece


@dataclass
class State:
    draining: bool = False
    busy: int = 0
    health_answers: int = 0
    leak: list[bytearray] = field(default_factory=list)
    websockets: set[asyncio.StreamWriter] = field(default_factory=set)
    idle: set[asyncio.StreamWriter] = field(default_factory=set)


def setting(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


class App:
    def __init__(self) -> None:
        self.state = State()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection: requests until it closes, idles too long or the process drains."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            while not self.state.draining:
                self.state.idle.add(writer)
                try:
                    request = await asyncio.wait_for(read_request(reader), IDLE_SECONDS)
                finally:
                    self.state.idle.discard(writer)
                if request is None:
                    break
                if request.headers.get("upgrade", "").lower() == "websocket":
                    await self.websocket(request, writer)
                    break
                self.state.busy += 1
                try:
                    keep = await self.answer(request, writer)
                finally:
                    self.state.busy -= 1
                if not keep:
                    break
        writer.close()

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Writes the response. Returns whether the connection stays open."""
        pieces = request.body()
        status, content = await self.respond(request, pieces)
        async for _ in pieces:
            pass  # an unread body would be taken for the next request
        keep = request.headers.get("connection", "").lower() != "close" and not self.state.draining
        reason = {200: "OK", 404: "Not Found", 500: "Internal Server Error", 502: "Bad Gateway"}[status]
        data = content if isinstance(content, bytes) else (json.dumps(content) + "\n").encode()
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
            f"X-Version: {setting('VERSION', '1')}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        writer.write(head.encode() + (b"" if request.method == "HEAD" else data))
        await writer.drain()
        return keep

    async def respond(self, request: Request, pieces: AsyncIterator[bytes]) -> tuple[int, object]:
        match request.path:
            case "/up":
                return await self.health()
            case "/slow":
                seconds = float(request.query("s", "1"))
                await asyncio.sleep(seconds)
                return 200, {**identity(request), "slept": seconds}
            case "/env":
                return 200, {name: value for name, value in sorted(os.environ.items()) if name.startswith(LISTED)}
            case "/headers":
                return 200, request.headers
            case "/connect":
                return await relay_line(int(request.query("port")), request.query("line", "hello"))
            case "/fetch":
                return await fetch(request.query("url"))
        if request.method == "POST":
            digest, length = hashlib.sha256(), 0
            async for piece in pieces:
                digest.update(piece)
                length += len(piece)
            return 200, {**identity(request), "length": length, "sha256": digest.hexdigest()}
        if setting("LEAK_MB"):
            self.state.leak.append(bytearray(int(setting("LEAK_MB")) * 1_000_000))
        return 200, identity(request)

    async def health(self) -> tuple[int, object]:
        self.state.health_answers += 1
        if setting("HANG_HEALTH") == "1":
            await asyncio.Event().wait()
        flap = int(setting("FLAP_HEALTH", "0"))
        failing = setting("FAIL_HEALTH") == "1" or (flap and self.state.health_answers % flap == 0)
        return (500, {"up": False}) if failing else (200, {"up": True, "version": setting("VERSION", "1")})

    async def websocket(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Echoes text and binary messages (unfragmented), answers pings; "version" is answered with the version."""
        key = request.headers.get("sec-websocket-key", "")
        accept = base64.b64encode(hashlib.sha1((key + WEBSOCKET_GUID).encode()).digest()).decode()
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        self.state.websockets.add(writer)
        try:
            while True:
                opcode, payload = await read_frame(request.reader)
                if opcode == CLOSE:
                    writer.write(frame(CLOSE, payload[:2]))
                    await writer.drain()
                    return
                if opcode == PING:
                    writer.write(frame(PONG, payload))
                elif opcode in (TEXT, BINARY):
                    writer.write(frame(opcode, setting("VERSION", "1").encode() if payload == b"version" else payload))
                await writer.drain()
        finally:
            self.state.websockets.discard(writer)

    async def drain(self, servers: list[asyncio.Server]) -> None:
        """Closes the listeners, tells the websockets to come back elsewhere and waits for what is in flight."""
        self.state.draining = True
        for server in servers:
            server.close()
        for writer in list(self.state.websockets):
            writer.write(frame(CLOSE, struct.pack("!H", SERVICE_RESTART) + b"service restart"))
        for writer in list(self.state.idle):
            writer.close()
        deadline = asyncio.get_running_loop().time() + float(setting("DRAIN_SECONDS", "30"))
        while (self.state.busy or self.state.websockets) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)


def identity(request: Request) -> dict[str, object]:
    return {
        "version": setting("VERSION", "1"),
        "hostname": socket.gethostname(),
        "slot": setting("SLOT"),
        "pid": os.getpid(),
        "path": request.target,
        "method": request.method,
    }


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request's head, or None when the client has closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return Request(method, target, headers, reader)


async def relay_line(port: int, line: str) -> tuple[int, object]:
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection("localhost", port), 5)
        writer.write(line.encode() + b"\n")
        answer = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    except (OSError, TimeoutError) as error:
        return 502, {"port": port, "error": f"{type(error).__name__}: {error}"}
    return 200, {"port": port, "line": answer.decode(errors="replace").rstrip("\r\n")}


async def fetch(url: str) -> tuple[int, object]:
    """GET of a plain http address, over a connection of its own."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, parts.port or 80), 5)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
        writer.close()
        status = int(head.split(b" ", 2)[1])
    except (OSError, TimeoutError, IndexError) as error:
        return 502, {"url": url, "error": f"{type(error).__name__}: {error}"}
    return 200, {"url": url, "status": status, "body": body.decode(errors="replace")}


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", await reader.readexactly(8))
    mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
    data = await reader.readexactly(length)
    return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, unfragmented frame, as a server sends it (RFC 6455 section 5.2)."""
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + bytes([126]) + struct.pack("!H", len(payload)) + payload
    return head + bytes([127]) + struct.pack("!Q", len(payload)) + payload


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main() -> None:
    if setting("EXIT_AT_START"):
        sys.exit(int(setting("EXIT_AT_START")))
    if setting("DIE_IF_EXISTS") and os.path.exists(setting("DIE_IF_EXISTS")):
        sys.exit(4)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, (lambda: None) if setting("IGNORE_TERM") == "1" else stopped.set)
    if setting("CRASH_AFTER"):
        loop.call_later(float(setting("CRASH_AFTER")), os._exit, 3)
    await asyncio.sleep(float(setting("START_DELAY", "0")))
    app, servers = App(), []
    if setting("NO_LISTEN") != "1":
        port = int(setting("PORT", "8080"))
        servers.append(await asyncio.start_server(app.serve, "0.0.0.0", port, limit=LIMIT_HEADER, backlog=1024))
        if setting("TCP_PORT"):
            servers.append(await asyncio.start_server(echo, "0.0.0.0", int(setting("TCP_PORT"))))
    print(f"app {setting('VERSION', '1')} listens", flush=True)
    await stopped.wait()
    await app.drain(servers)
    print("app drained", flush=True)
    os._exit(0)  # connections that idle must not hold the process up


if __name__ == "__main__":
    asyncio.run(main())
