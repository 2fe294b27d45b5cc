"""The daemon as a process of its own, which tells each step with the time on the monotonic clock that all processes share.

    python -m tests.bench.daemon_process SETTINGS.yaml

Each line of standard output is JSON: {"at": seconds, "say": text} or {"at": seconds, "when": "before" | "after", "effect": ...}.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from reconciler.engine.daemon import run_daemon
from reconciler.engine.settings import read_settings
from reconciler.model.effect import Effect

_ONE_AT_A_TIME = threading.Lock()


def tell(**said: object) -> None:
    """One line, at once: who reads may kill this process because of it."""
    with _ONE_AT_A_TIME:
        print(json.dumps({"at": time.monotonic(), **said}), flush=True)


def name_of(effect: Effect) -> str:
    """What an effect concerns."""
    plan = getattr(effect, "plan", None)
    return str(plan.name if plan is not None else getattr(effect, "name", None) or getattr(effect, "container", ""))


def main() -> int:
    file = Path(sys.argv[1])
    nothing: Mapping[str, str] = {}
    return run_daemon(
        lambda: read_settings(file, nothing, {}),
        (file,),
        lambda line: tell(say=line),
        lambda when, effect: tell(when=when, effect=effect.kind, name=name_of(effect)),
    )


if __name__ == "__main__":
    sys.exit(main())
