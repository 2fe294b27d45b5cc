"""`make simulate SEEDS=1000:2000`: many seeds on all cores; a failing one is shrunk and can be replayed alone.

`make simulate SCOPE=small`: one toggle on two servers, with the program's death at every pair of moments.
`--replay SEED` prints all that happens in one run, `--digest SEED` its SHA-256.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.drawing import draw
from tests.simulation.rules import Rules
from tests.simulation.running import Finding, digest, run, trace
from tests.simulation.scope import search
from tests.simulation.shrinking import outcome, shrink

SHOWN = 3


def main() -> int:
    """1 if an invariant was broken."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default=range(2000), help="first:last, exclusive")
    parser.add_argument("--workers", type=int, help="processes; default: one for each core")
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--digest", type=int, metavar="SEED")
    parser.add_argument("--scope", choices=("small",), help="instead: two servers, one toggle, every pair of crashes")
    parser.add_argument("--all", action="store_true", help=f"go on after {SHOWN} findings")
    options = parser.parse_args()
    if options.replay is not None:
        sys.stdout.write(trace(options.replay))
        return 0
    if options.digest is not None:
        print(digest(options.digest))
        return 0
    if options.scope is not None:
        return _small(options.workers)
    found = []
    for finding in run(options.seeds, lambda words: print(words, flush=True), options.workers):
        found.append(finding)
        print(f"seed {finding.seed}: {finding.message}", flush=True)
        if len(found) >= SHOWN and not options.all:
            break
    for finding in found[:SHOWN]:
        _show(finding)
    return 1 if found else 0


def _small(workers: int | None) -> int:
    """Each death of the program during a toggle, and each pair."""
    done, begun = 0, time.monotonic()
    for part in search(workers):
        done += part.pairs
        if part.broken:
            print("\n".join(part.broken))
            return 1
        print(f"moment {part.first} and each after it: {done} pairs so far, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{done} pairs, all of them fine")
    return 0


def _show(finding: Finding) -> None:
    print(f"\nseed {finding.seed}, shrunk (all of it: make simulate ARGS='--replay {finding.seed}'):", flush=True)
    scene = shrink(draw(finding.seed), Rules())
    for event in scene.events:
        print(f"  {event}")
    broken = outcome(scene, Rules())
    assert broken is not None
    print("which goes:")
    for line in broken.log[-60:]:
        print(f"  {line}")
    print(f"  {broken}", flush=True)


def _seeds(text: str) -> range:
    first, _, last = text.partition(":")
    try:
        return range(int(first), int(last)) if last else range(int(first))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not first:last, such as 1000:2000") from None


if __name__ == "__main__":
    sys.exit(main())
