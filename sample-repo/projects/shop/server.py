"""A small HTTP/1.1 server that ends well: on SIGTERM it stops listening, answers what is in flight and exits 0."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

Answer = tuple[int, str, str]  # status, content type, body
IDLE_SECONDS = 75  # longer than any proxy keeps an idle connection, so that the proxy is the one who closes
REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


class Server:
    def __init__(self, answer: Callable[[str], Awaitable[Answer]]) -> None:
        self.answer = answer
        self.busy = 0
        self.stopping = asyncio.Event()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            while not self.stopping.is_set():
                head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_SECONDS)).decode("latin-1")
                self.busy += 1
                try:
                    await self.reply(head, reader, writer)
                finally:
                    self.busy -= 1
        writer.close()

    async def reply(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await reader.readexactly(int(headers.get("content-length", 0)))
        status, kind, body = await self.answer(first.split(" ")[1])
        keep = "close" if self.stopping.is_set() else "keep-alive"
        writer.write(
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}; charset=utf-8\r\n"
            f"Content-Length: {len(body.encode())}\r\nConnection: {keep}\r\n\r\n{body}".encode()
        )
        await writer.drain()


async def serve(answer: Callable[[str], Awaitable[Answer]], port: int) -> None:
    """Serves until SIGTERM. `answer` is given the path and returns (status, content type, body)."""
    server = Server(answer)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stopping.set)
    listener = await asyncio.start_server(server.connection, "0.0.0.0", port)
    print(f"listens on {port}", flush=True)
    await server.stopping.wait()
    listener.close()
    while server.busy:
        await asyncio.sleep(0.02)
    os._exit(0)  # idle keep-alive connections need no goodbye
