"""The load generator's own numbers: it loses nothing on a good server, and counts everything that a bad one does."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from load import Load, Plan, Report, Tcp

from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[1]
Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@pytest.fixture
def app(free_port: Callable[[], int]) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """The test application as a process: (process, HTTP port, TCP echo port)."""
    http, tcp = free_port(), free_port()
    environment = {**os.environ, "PORT": str(http), "TCP_PORT": str(tcp)}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/integration/app/app.py")], env=environment, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"app 1 listens\n"
    yield process, http, tcp
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_good_server_loses_nothing_of_any_kind(app: tuple[subprocess.Popen[bytes], int, int]) -> None:
    _, http, tcp = app
    plan = Plan(
        url=f"http://127.0.0.1:{http}",
        seconds=3,
        posts=2,
        echo=True,
        gets=1,
        slow_gets=1,
        slow_path="/slow?s=0.5",
        websockets=2,
        uploads=1,
        upload_seconds=1,
        tcp=(Tcp(tcp, "hello\n", "hello\n"), Tcp(tcp, "again\n", "again\n", exchanges=0, name="tcp_kept")),
        seen='"version": "([^"]+)"',
    )
    report = Load.start(plan).wait()
    assert report.failed == 0, report.errors
    assert set(report.kinds) == {"post", "get", "slow_get", "websocket", "upload", "tcp", "tcp_kept"}
    assert min(count.sent for count in report.kinds.values()) >= 1
    http_kinds = ("post", "get", "slow_get", "upload")
    assert dict(report.seen) == {"1": sum(report.kinds[kind].sent for kind in http_kinds)}


def test_a_websocket_that_is_told_to_come_back_is_not_lost_but_a_server_that_is_gone_is(
    app: tuple[subprocess.Popen[bytes], int, int], eventually: Callable[..., object]
) -> None:
    process, http, _ = app
    with Load.start(Plan(url=f"http://127.0.0.1:{http}", seconds=120, websockets=1)) as load:
        eventually(lambda: load.report.sent > 5, 30, "messages to be sent")
        process.terminate()
        eventually(lambda: load.report.failed > 0, 30, "the refused connection to be counted")
        report = load.stop()
    count = report.kinds["websocket"]
    assert count.reconnects == 1
    assert "ConnectionRefusedError" in count.errors[0]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno\n", "GET /: status 502: 'no'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\ncut off", "the connection ended in the middle of an answer"),
        (b"", "the connection ended in the middle of an answer (0 bytes of it had come)"),
    ],
)
def test_every_bad_answer_is_counted_and_the_first_ones_are_told_verbatim(answer: bytes, error: str) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    report = _against(connection, gets=1)
    count = report.kinds["get"]
    assert count.sent == count.failed > 1
    assert error in count.errors[0]
    assert len(count.errors) <= 5


def test_a_body_that_does_not_arrive_whole_is_a_failure() -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2048)
        body = b'{"length": 2047, "sha256": "00"}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    report = _against(connection, posts=1, echo=True)
    assert report.failed == report.sent > 1
    assert "the body arrived as 2047 bytes 00, sent were 2048 bytes" in report.errors[0]


def test_a_server_that_closes_an_idle_connection_loses_nothing() -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        # The end of the connection travels with the answer: it is there before the client asks again, however busy this machine.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.write_eof()
        await writer.drain()
        writer.close()

    report = _against(connection, gets=1, pause=0.05)
    assert report.failed == 0, report.errors
    assert report.kinds["get"].reconnects == report.sent - 1 > 0


@pytest.mark.parametrize("url", ["http://10.0.0.1:80", "http://example.com", "https://127.0.0.1", "http://127.0.0.1.example.com"])
def test_load_goes_nowhere_but_to_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="load is sent to this machine alone"):
        Plan(url=url, seconds=1, gets=1)


def _against(connection: Connection, **given: object) -> Report:
    """The report of some requests to a server that treats every connection like this."""

    async def measured() -> Report:
        server = await asyncio.start_server(connection, "127.0.0.1", 0)  # type: ignore[arg-type]
        port = server.sockets[0].getsockname()[1]
        load = Load.start(Plan(url=f"http://127.0.0.1:{port}", seconds=120, **given))  # type: ignore[arg-type]

        def enough() -> Report:
            with load:
                eventually(lambda: load.report.sent > 1, 60, "requests to be sent")
                return load.stop()

        report = await asyncio.get_running_loop().run_in_executor(None, enough)
        server.close()
        return report

    return asyncio.run(measured())
