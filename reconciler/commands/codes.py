"""Exit codes, the same for every command."""

from __future__ import annotations

from typing import Final

CONVERGED: Final = 0
INVALID: Final = 1
FAILED: Final = 2
PENDING: Final = 3
INTERRUPTED: Final = 130

EXPLAINED: Final = """Exit codes: 0 done, and for --once: what runs is what is desired. \
1 something that was given is wrong: usage, settings, or a config file (the other projects were still brought about). \
2 something could not be done: Docker or Git does not answer, the state directory is in use, a step failed. \
3 not converged yet: a rollout was refused, is held back or is still under way. 130 interrupted."""
