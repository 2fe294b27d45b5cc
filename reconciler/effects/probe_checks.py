"""One look over the network at a container's own address: HTTP and TCP, each on a connection of its own.

Never through a published port: docker-proxy accepts before the application listens.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Final

from reconciler.model.gate import ProbeResult

SUCCESS: Final = ProbeResult(kind="success")
_STATUS_LINE = re.compile(rb"^HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n$")
_LINE_LIMIT: Final = 8192
_CLOSES_AT_ONCE_SECONDS: Final = 0.1


def failure(error: str) -> ProbeResult:
    """A failed look, with what was found."""
    return ProbeResult(kind="failure", error=error)


async def http(address: str, port: int, path: str) -> ProbeResult:
    """GET `path` as `Host: localhost`. Success is a status of 200 to 399, as for Kubernetes; a redirect is not followed.

    The caller limits the time. What comes after the status line is not read.
    """
    if not path.startswith("/") or re.search(r"[\s\x00-\x1f\x7f]", path):
        return failure(f"health path {path!r} is not a path")
    try:
        reader, writer = await asyncio.open_connection(address, port, limit=_LINE_LIMIT)
    except OSError as error:
        return failure(f"http {address}:{port}: {_words(error)}")
    try:
        headers = "Host: localhost\r\nUser-Agent: reconciler-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\n{headers}".encode())
        await writer.drain()
        line = await reader.readline()
    except (OSError, ValueError, asyncio.LimitOverrunError) as error:
        return failure(f"GET {path} at {address}:{port}: {_words(error)}")
    finally:
        writer.transport.abort()
    match = _STATUS_LINE.match(line)
    if match is None:
        return failure(f"GET {path} at {address}:{port}: {'closed without an answer' if not line else 'the answer is not HTTP'}")
    status = int(match.group(1))
    return SUCCESS if 200 <= status < 400 else failure(f"GET {path} at {address}:{port}: status {status}, expected 200 to 399")


async def tcp(address: str, port: int) -> ProbeResult:
    """Connect, and see that the other side does not close at once. The caller limits the time."""
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError as error:
        return failure(f"tcp {address}:{port}: {_words(error)}")
    try:
        first = await asyncio.wait_for(reader.read(1), _CLOSES_AT_ONCE_SECONDS)
        return SUCCESS if first else failure(f"tcp {address}:{port}: closed at once")
    except TimeoutError:
        return SUCCESS
    except OSError as error:
        return failure(f"tcp {address}:{port}: {_words(error)}")
    finally:
        writer.transport.abort()


def _words(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return (os.strerror(number) if number else str(error) or type(error).__name__).lower()
