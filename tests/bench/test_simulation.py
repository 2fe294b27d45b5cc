"""The simulation for longer: ten thousand stories of servers that crash, lag, restart and lose their disks, on all cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from tests.bench.conftest import Mode
from tests.bench.results import Section
from tests.simulation.running import run


@pytest.mark.timeout(3600)
def test_no_seed_breaks_an_invariant(mode: Mode, report: Callable[[Section], None]) -> None:
    seeds, cores = range(mode.pick(1000, 10_000)), os.cpu_count() or 1
    section = Section(
        "Simulation",
        f"""Seeds {seeds.start} to {seeds.stop - 1} of `make simulate`, one process for each core: 1 to 12 servers, some
        70 events each, invariants after every step, then convergence. Asserted: no violation.""",
    )
    began = time.monotonic()
    broken = [f"seed {found.seed}: {found.message}" for found in run(seeds, lambda words: print(words, flush=True), cores)]
    seconds = time.monotonic() - began
    row = [f"{len(seeds):,}", len(broken), cores, f"{seconds:.0f} s", f"{len(seeds) / seconds:.1f}"]
    section.table(["seeds", "violations", "cores", "time", "seeds a second"], [row])
    report(section)
    assert not broken, broken
