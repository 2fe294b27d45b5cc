"""`reconcile run`: the daemon."""

from __future__ import annotations

import sys

from reconciler.commands.invocation import Invocation
from reconciler.engine.daemon import run_daemon
from reconciler.engine.settings import DEFAULT_FILE
from reconciler.model.effect import Effect
from reconciler.model.printable import printable
from reconciler.render.terminal_progress import effect_line


def run(invocation: Invocation) -> int:
    """Run until a signal ends it. Lines go to standard output without times, as a journal adds its own. Returns the exit code."""

    def say(line: str) -> None:
        sys.stdout.write(printable(line) + "\n")
        sys.stdout.flush()

    def watch(when: str, effect: Effect) -> None:
        line = effect_line(effect, all_steps=invocation.verbose)
        if when == "before" and line is not None and not invocation.quiet:
            say(f"  {line}")

    policy = invocation.settings().policy
    files = ((invocation.config or DEFAULT_FILE).absolute(), *([policy] if policy is not None else []))
    return run_daemon(invocation.settings, files, say, watch)
