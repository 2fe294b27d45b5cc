"""The connection to one Docker Engine: a client per thread, a time limit per call, calls counted, failures told apart."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import docker
import docker.errors
import requests
import urllib3.exceptions

from reconciler.errors import Transient

CALL_SECONDS: Final = 20
WRITES: Final = frozenset(
    {
        *("create", "start", "stop", "kill", "unpause", "remove", "update", "connect"),
        *("network-create", "network-remove", "pull", "build", "rmi"),
    }
)
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)|[\x00-\x08\x0b-\x1f\x7f-\x9f]|\x1b", re.DOTALL)
_ID: Final = re.compile(r"[0-9a-f]{64}")
_FRESH_ID: Final = re.compile(r" \([0-9a-f]{64}\)")
_LINE_LENGTH: Final = 400


class DockerApi:
    """`base_url` as in DOCKER_HOST, such as `unix:///var/run/docker.sock`. `server`: whose containers are ours.

    `calls` counts the API calls by verb since the start, so that a pass can be shown to have cost one `list` and no write.
    """

    def __init__(self, base_url: str, server: str, call_seconds: int = CALL_SECONDS) -> None:
        self.base_url = base_url
        self.server = server
        self.call_seconds = call_seconds
        self.calls: Counter[str] = Counter()
        self._version: str | None = None
        self._clients = threading.local()
        self._count_lock = threading.Lock()

    @property
    def writes(self) -> int:
        """How many calls so far changed something in Docker."""
        return sum(count for verb, count in self.calls.items() if verb in WRITES)

    def ping(self) -> None:
        """Raises Transient when the daemon does not answer."""
        with self.call("ping", "answer a ping") as client:
            client.ping()

    @contextmanager
    def call(self, verb: str, what: str, *, seconds: int | None = None) -> Iterator[docker.APIClient]:
        """One API call, counted under `verb`, made with the client of this thread.

        `what` completes "Docker refused to ...". `seconds` limits each wait for an answer (`call_seconds` when None). Raises
        Transient for everything that the caller did not expect; it catches an expected `docker.errors.APIError` inside the block.
        """
        seconds = self.call_seconds if seconds is None else seconds
        with self._count_lock:
            self.calls[verb] += 1
        try:
            client = self._client()
            client.timeout = seconds
            yield client
        except docker.errors.APIError as error:
            raise Transient(f"Docker at {self.base_url} refused to {what}: {explain(error)}") from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as error:
            raise Transient(f"Docker at {self.base_url} did not {what} within {seconds} s: see whether the daemon hangs") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, docker.errors.DockerException, OSError) as error:
            raise Transient(f"Docker does not answer at {self.base_url}: start it, or name the right socket") from error

    def _client(self) -> docker.APIClient:
        # Sessions of `requests` are not safe to share between threads, and a hanging call must not hold up another thread's.
        client: docker.APIClient | None = getattr(self._clients, "client", None)
        if client is None:
            client = docker.APIClient(base_url=self.base_url, version=self._version or "auto", timeout=self.call_seconds)
            self._version = client.api_version
            self._clients.client = client
        return client


def explain(error: docker.errors.APIError) -> str:
    """The daemon's own words, on one line, without ids that differ at each attempt: the same trouble is told once."""
    return one_line(_FRESH_ID.sub("", str(error.explanation or error)))


def short(identity: str) -> str:
    """A container as people know it: a name as it is, an id by its first twelve digits."""
    return identity[:12] if _ID.fullmatch(identity) else identity


def one_line(text: str) -> str:
    """Without control sequences and line breaks, and bounded."""
    return " ".join(plain(text).split())[:_LINE_LENGTH]


def plain(text: str) -> str:
    """Without terminal escape sequences and control characters other than tab and line feed (FAULTS 60)."""
    return _CONTROL.sub("", text)


def plain_lines(output: bytes, tail: int) -> tuple[str, ...]:
    """The last `tail` lines of a program's output, harmless to print, each bounded."""
    lines = plain(output.decode(errors="replace").replace("\r", "\n")).split("\n")
    return tuple(line.rstrip()[:_LINE_LENGTH] for line in lines if line.strip())[-tail:]
