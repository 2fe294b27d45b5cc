"""`python -m tests.simulation --seeds N [--servers 1] [--steps 60] [--first 0]`: more seeds than the tests have time for."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.world import World


def main() -> int:
    """Run the seeds, print what fails; 1 if any did."""
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--servers", type=int, default=0, help="0: one, two and three in turn")
    options = parser.parse_args()
    failed = 0
    for seed in range(options.first, options.first + options.seeds):
        try:
            World(seed, options.servers or 1 + seed % 3).run(options.steps)
        except AssertionError as error:
            failed += 1
            print(error)
    print(f"{options.seeds} seeds, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
