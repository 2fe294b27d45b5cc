"""What is told of a refusal: nginx's own words, and nothing that differs each time (a report that differs is pushed)."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.effects.nginx import Nginx


class Logs:
    """A container of which there are log lines alone."""

    def __init__(self, *lines: str) -> None:
        self._lines = lines

    def exec(self, name: str, argv: tuple[str, ...], timeout: float, /) -> tuple[int, str]:
        raise AssertionError(f"nothing is run in {name}")

    def logs(self, name: str, tail: int, /) -> tuple[str, ...]:
        return self._lines[-tail:]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('2026/11/21 12:00:00 [emerg] 30#30: open() "/tmp/nginx.pid" failed', '[emerg] open() "/tmp/nginx.pid" failed'),
        ("2026/11/21 12:00:00 [emerg] 7#9: *12 bind() to 127.0.0.1:80 failed", "[emerg] bind() to 127.0.0.1:80 failed"),
        ('nginx: [emerg] unknown directive "x" in 1#1: y', '[emerg] unknown directive "x" in 1#1: y'),
    ],
)
def test_a_refusal_is_told_without_the_process_that_said_it(tmp_path: Path, line: str, told: str) -> None:
    assert Nginx(tmp_path, Logs("something else", line)).complaint("nginx") == told
