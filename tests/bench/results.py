"""bench/RESULTS.md: one section for each bench, replaced when that bench runs again, and the machine it ran on."""

from __future__ import annotations

import fcntl
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import docker

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "bench" / "RESULTS.md"
HEAD = """# Results

Written by `make bench`; each section by its own bench, which replaces that section alone. What is measured, and how to run one
bench: `README.md`. Counts are asserted by the bench (it fails otherwise), times are only reported.
"""
BUSY = 0.5
"""Load average per core, at the start of a bench, from which on the machine counts as shared with others."""


@dataclass
class Section:
    """What one bench has to say. `how` tells in a few words how the numbers were taken."""

    title: str
    how: str
    lines: list[str] = field(default_factory=list)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table."""
        self.lines += ["", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        self.lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
        self.lines.append("")

    def say(self, text: str) -> None:
        """Add a paragraph."""
        self.lines += ["", text]

    def write(self, client: docker.DockerClient, command: str) -> None:
        """Put it into RESULTS.md, in the place of what was there under the same title."""
        per_core = self.load_before / (os.cpu_count() or 1)
        shared = f"load average {self.load_before:.1f} when it began" + (
            ": **a machine that others were using; times are upper bounds**" if per_core >= BUSY else ""
        )
        stamp = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        title = f"{self.title} (quick)" if "quick" in command else self.title  # never in the place of the full numbers
        text = f"## {title}\n\n{' '.join(self.how.split())}\n" + "\n".join(self.lines).rstrip() + "\n"
        text += f"\n*{stamp}, `{command}`. {machine(client)}; {shared}.*\n"
        FILE.parent.mkdir(exist_ok=True)
        (ROOT / ".cache").mkdir(exist_ok=True)
        with (ROOT / ".cache" / "bench.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two benches may end at the same time
            sections = _sections()
            sections[title] = text
            FILE.write_text(HEAD + "\n" + "\n".join(sections.values()))
        print("\n" + text, flush=True)


def machine(client: docker.DockerClient) -> str:
    """Cores, kernel, Docker, Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, Docker Engine {client.version()['Version']}, "
        f"nginx {nginx_version(client)}, Git {_git_version()}, Python {sys.version.split()[0]}"
    )


def nginx_version(client: docker.DockerClient, image: str = "reconciler-test/nginx:1") -> str:
    """What the image's nginx says of itself."""
    output = client.containers.run(image, ["nginx", "-v"], remove=True, stderr=True)
    return bytes(output).decode().rpartition("/")[2].strip()


def spread(values: Sequence[float], unit: str, digits: int = 0) -> str:
    """`median (maximum) unit`; a dash for nothing."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({max(values):.{digits}f}) {unit}"


def _git_version() -> str:
    return subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


def _sections() -> dict[str, str]:
    if not FILE.exists():
        return {}
    parts = ("\n" + FILE.read_text()).split("\n## ")[1:]
    return {part.split("\n", 1)[0]: "## " + part.rstrip("\n") + "\n" for part in parts}
