"""`reconcile`: the composition root."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from reconciler.effects.journal import StateLock
from reconciler.engine.loop import Wake, until_settled
from reconciler.engine.settings import environment, read_settings
from reconciler.engine.wiring import wire
from reconciler.errors import Invalid, ReconcilerError

app = typer.Typer()


@app.callback(invoke_without_command=True)
def root(
    once: Annotated[bool, typer.Option("--once")] = False,
    repo: Annotated[str | None, typer.Option()] = None,
    server: Annotated[str | None, typer.Option()] = None,
    state_dir: Annotated[Path | None, typer.Option()] = None,
    timeout: Annotated[float, typer.Option()] = 900.0,
) -> None:
    try:
        settings = read_settings(None, environment(), {"repo": repo, "server": server, "state_dir": state_dir})
        lock = StateLock(settings.state_dir, "reconcile --once")
        wake = Wake()
        begin = time.monotonic()

        def say(line: str) -> None:
            print(f"{time.monotonic() - begin:7.2f} {line}", flush=True)

        wired = wire(settings, wake.ring, say, lambda when, effect: say(f"   {when} {effect.kind} {effect.model_dump(include={'name','container'})}") if when == "before" else None)
        settled = until_settled(wired.cycle, wired.jobs, wake, timeout=timeout, progress=lambda outcome: None)
        say(str(settled))
        wired.close()
        lock.release()
    except Invalid as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    except ReconcilerError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None


def main() -> None:
    app()
