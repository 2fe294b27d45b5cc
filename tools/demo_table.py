"""The table at the end of a demo: one row for each step, and what the clients met meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

MIDDLING = 92
ROOMY = 124  # columns that the whole table needs
WIDTH = 140  # where the output is not a terminal


@dataclass(frozen=True)
class Step:
    """What a step came to. `seconds`: from the push to the outcome, as the status tells it; what drains afterwards is not in it.

    switch_ms: until nginx was verified to serve the new slot, on the slowest server; None when nothing was switched.
    versions: answers by the version that gave them, in this step.
    """

    name: str
    commit: str
    outcome: str
    slot_before: str | None
    slot_after: str | None
    switch_ms: float | None
    seconds: float
    sent: int
    failed: int
    versions: Mapping[str, int]


def steps_table(console: Console, title: str, steps: Sequence[Step], *, sent: int, failed: int) -> Table:
    """As many columns as there is room for."""
    table = Table(title=title, title_justify="left", show_footer=True, box=SIMPLE)
    roomy = console.width >= ROOMY
    table.add_column("step", footer="in all", no_wrap=roomy)
    if roomy:
        table.add_column("commit")
    table.add_column("outcome", no_wrap=roomy)
    table.add_column("slot before", style="dim", min_width=9)
    table.add_column("slot after", min_width=9)
    table.add_column("switch ms", justify="right", min_width=6)
    if console.width >= MIDDLING:
        table.add_column("after s", justify="right")
    table.add_column("requests", justify="right", min_width=8, footer=str(sent))
    table.add_column("failed", justify="right", min_width=6, footer=str(failed), style="bold")
    if roomy:
        table.add_column("answers by version")
    for step in steps:
        versions = ", ".join(f"{version}: {times}" for version, times in step.versions.items()) or "-"
        table.add_row(
            step.name,
            *([step.commit] if roomy else []),
            step.outcome,
            step.slot_before or "-",
            step.slot_after or "-",
            f"{step.switch_ms:.0f}" if step.switch_ms is not None else "-",
            *([f"{step.seconds:.1f}"] if console.width >= MIDDLING else []),
            str(step.sent),
            str(step.failed),
            *([versions] if roomy else []),
        )
    return table
