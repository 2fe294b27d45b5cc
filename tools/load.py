"""Load on one server's own addresses: counts what was sent and what failed, and hides nothing.

As a process of its own it is given a plan as JSON and writes a report as one line of JSON every half second and at the end:

    tools/load.py '{"url": "http://127.0.0.1:8080", "seconds": 30, "posts": 4}'

It ends after `seconds`, at SIGTERM, or when its standard input is closed; what is in flight is finished first. From Python:

    with Load.start(Plan(url="http://127.0.0.1:8080", seconds=30, posts=4)) as load:
        ...
    report = load.stop()

Only addresses in 127.0.0.0/8 are accepted. What counts as failed: see `load_clients`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import load_clients as clients
import load_sockets as sockets
from load_clients import Count

REPORT_SECONDS = 0.5
FINISH_SECONDS = 45.0
SECONDS_MOST = 3600.0
CLIENTS_MOST = 500


@dataclass(frozen=True)
class Tcp:
    """One raw TCP client: sends `send`, expects an answer that begins with `expect`. `exchanges` per connection, 0: any number."""

    port: int
    send: str
    expect: str
    exchanges: int = 1
    name: str = "tcp"


@dataclass(frozen=True)
class Plan:
    """What to send. `posts`, `gets`, `slow_gets`, `websockets`, `uploads`: numbers of clients; `pause`: s between two.

    url: http://127.x.y.z:port. host: the Host header, if it differs. seconds: the bound in time. most: the bound in requests.
    echo: the answer to a POST names `length` and `sha256` of the body, and is checked; otherwise its status and length alone.
    seen: a regular expression; what its first group finds in answers to GET and POST is counted, such as versions.
    """

    url: str
    seconds: float
    host: str = ""
    posts: int = 0
    gets: int = 0
    slow_gets: int = 0
    websockets: int = 0
    uploads: int = 0
    tcp: tuple[Tcp, ...] = ()
    most: int = 500_000
    pause: float = 0.005
    post_path: str = "/"
    post_bytes: int = 2048
    echo: bool = False
    get_path: str = "/"
    slow_path: str = "/slow?s=2"
    websocket_path: str = "/ws"
    upload_path: str = "/"
    upload_bytes: int = 200_000
    upload_seconds: float = 20.0
    timeout: float = 30.0
    seen: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname or not _loopback(parts.hostname):
            raise ValueError(f"url is {self.url!r}; expected http://127.x.y.z:port: load is sent to this machine alone")
        if not 0 < self.seconds <= SECONDS_MOST:
            raise ValueError(f"seconds is {self.seconds}; expected more than 0 and at most {SECONDS_MOST:.0f}")
        total = self.posts + self.gets + self.slow_gets + self.websockets + self.uploads + len(self.tcp)
        if not 0 < total <= CLIENTS_MOST:
            raise ValueError(f"{total} clients; expected 1 to {CLIENTS_MOST}")

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Raises ValueError for anything that is not a plan."""
        values = json.loads(text)
        if not isinstance(values, dict) or (unknown := set(values) - set(cls.__dataclass_fields__)):
            raise ValueError(f"not a plan: {'a JSON object is expected' if not isinstance(values, dict) else sorted(unknown)}")
        values["tcp"] = tuple(Tcp(**each) for each in values.get("tcp", ()))
        return cls(**values)


@dataclass(frozen=True)
class Report:
    """What happened so far, or (`done`) in all. `kinds`: post, get, slow_get, websocket, upload, the names of the TCP clients."""

    seconds: float = 0.0
    done: bool = False
    kinds: Mapping[str, Count] = field(default_factory=dict)

    @property
    def sent(self) -> int:
        return sum(count.sent for count in self.kinds.values())

    @property
    def failed(self) -> int:
        return sum(count.failed for count in self.kinds.values())

    @property
    def errors(self) -> tuple[str, ...]:
        """The first errors of each kind, verbatim."""
        return tuple(f"{kind}: {error}" for kind, count in self.kinds.items() for error in count.errors)

    @property
    def seen(self) -> Mapping[str, int]:
        """How often each value was seen, over all kinds."""
        found: dict[str, int] = {}
        for count in self.kinds.values():
            for value, times in count.seen.items():
                found[value] = found.get(value, 0) + times
        return found

    def to_json(self) -> str:
        return json.dumps({"sent": self.sent, "failed": self.failed, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Report:
        values = json.loads(text)
        return cls(values["seconds"], values["done"], {kind: Count(**count) for kind, count in values["kinds"].items()})


class Load:
    """A load generator in a process of its own, so that it and what it measures do not wait for each other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._report = Report()
        self._reader = threading.Thread(target=self._read, name="load", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, plan: Plan) -> Load:
        """Returns at once; the first requests are sent a moment later (see `report`)."""
        command = [sys.executable, str(Path(__file__).resolve()), json.dumps(asdict(plan))]
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def __enter__(self) -> Load:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def report(self) -> Report:
        """The counters at most half a second ago."""
        return self._report

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> Report:
        """Wait until the plan's time is over. Returns the whole report; raises as `stop` does."""
        self._reader.join()
        return self.stop()

    def stop(self) -> Report:
        """No new requests; waits for those in flight. Returns the whole report. Raises RuntimeError if the process broke."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            code = self._process.wait(FINISH_SECONDS + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(5)
        if code != 0 or not self._report.done:
            raise RuntimeError(f"the load generator ended with code {code} before its last report: its numbers are not complete")
        return self._report

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._report = Report.from_json(line)


async def run(plan: Plan, say: Callable[[Report], None]) -> Report:
    """Send the plan's load in this process until its time is over, SIGTERM, or the end of standard input."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    threading.Thread(target=_until_closed, args=(loop, stop), daemon=True).start()
    started = time.monotonic()
    kinds: dict[str, Count] = {}
    target = clients.target(plan.url, plan.host, timeout=plan.timeout, pause=plan.pause, seen=plan.seen)
    running = clients.Running(stop, plan.most)
    tasks = {asyncio.create_task(client) for client in _clients(plan, target, running, kinds)}

    def report(done: bool = False) -> Report:
        return Report(round(time.monotonic() - started, 2), done, kinds)

    while not stop.is_set() and time.monotonic() - started < plan.seconds and not running.exhausted:
        say(report())
        left = plan.seconds - (time.monotonic() - started)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, min(REPORT_SECONDS, left)))
    stop.set()
    ended, unfinished = await asyncio.wait(tasks, timeout=FINISH_SECONDS)
    for task in unfinished:
        task.cancel()
        Count.of(kinds, "unfinished").fail(f"in flight for more than {FINISH_SECONDS:.0f} s after the end")
    for task in ended:
        task.result()  # a fault of this program is not a failed request
    last = report(done=True)
    say(last)
    return last


def _clients(
    plan: Plan, target: clients.Target, running: clients.Running, kinds: dict[str, Count]
) -> list[Coroutine[None, None, None]]:
    count = Count.of
    made: list[Coroutine[None, None, None]] = []
    made += [
        clients.post(target, running, count(kinds, "post"), plan.post_path, plan.post_bytes, plan.echo) for _ in range(plan.posts)
    ]
    made += [clients.get(target, running, count(kinds, "get"), plan.get_path) for _ in range(plan.gets)]
    made += [clients.get(target, running, count(kinds, "slow_get"), plan.slow_path) for _ in range(plan.slow_gets)]
    made += [sockets.websocket(target, running, count(kinds, "websocket"), plan.websocket_path) for _ in range(plan.websockets)]
    made += [
        clients.upload(target, running, count(kinds, "upload"), plan.upload_path, plan.upload_bytes, plan.upload_seconds, plan.echo)
        for _ in range(plan.uploads)
    ]
    made += [
        sockets.tcp(target, running, count(kinds, each.name), each.port, each.send.encode(), each.expect.encode(), each.exchanges)
        for each in plan.tcp
    ]
    return made


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network("127.0.0.0/8")
    except ValueError:
        return False


def _until_closed(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while sys.stdin.readline():
        pass
    with contextlib.suppress(RuntimeError):  # the loop has ended by itself
        loop.call_soon_threadsafe(stop.set)


def main() -> int:
    try:
        plan = Plan.from_json(sys.argv[1])
    except (IndexError, ValueError, TypeError) as error:
        print(f"load: {error or 'a plan is expected'}\n\n{__doc__}", file=sys.stderr)
        return 2
    asyncio.run(run(plan, lambda report: print(report.to_json(), flush=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
