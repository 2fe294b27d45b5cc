"""Many seeds on several cores, with progress."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tests.simulation.drawing import draw
from tests.simulation.rules import Rules
from tests.simulation.shrinking import outcome
from tests.simulation.world import Broken, World


@dataclass(frozen=True)
class Finding:
    """A seed that breaks an invariant."""

    seed: int
    message: str


def trace(seed: int) -> str:
    """Everything that happens in a run, line by line, with what was broken if anything was."""
    world = World(draw(seed))
    try:
        world.run()
    except Broken as broken:
        world.log.append(str(broken))
    return "\n".join(world.log) + "\n"


def digest(seed: int) -> str:
    """The SHA-256 of a trace."""
    return hashlib.sha256(trace(seed).encode()).hexdigest()


def first_finding(seeds: Sequence[int], rules: Rules) -> Finding | None:
    """The first of the seeds, in order, that breaks an invariant."""
    for seed in seeds:
        found = _run(seed, rules)
        if found is not None:
            return found
    return None


def run(seeds: range, tell: Callable[[str], None], workers: int | None = None) -> Iterator[Finding]:
    """Run all of them, telling how far it is every few seconds; findings as they come."""
    begun = told = time.monotonic()
    done = failed = 0
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers or os.cpu_count(), _rarely_collect) as pool:
        for found in pool.imap_unordered(partial(_run, rules=None), seeds, chunksize=8):
            done += 1
            if found is not None:
                failed += 1
                yield found
            now = time.monotonic()
            if now - told >= 5.0 or done == len(seeds):
                told = now
                rate = done / max(now - begun, 0.001)
                tell(f"{done} of {len(seeds)} seeds, {failed} broken, {rate:.0f} a second, {now - begun:.0f} s")


def _rarely_collect() -> None:
    """What is imported stays, and a run makes few cycles: to look for them as often as Python does takes a tenth of the time."""
    gc.freeze()
    gc.set_threshold(20000, 20, 50)


def _run(seed: int, rules: Rules | None) -> Finding | None:
    broken = outcome(draw(seed), rules or Rules())
    return Finding(seed, str(broken)) if broken is not None else None
