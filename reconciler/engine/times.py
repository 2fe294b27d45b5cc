"""How long facts have been so: first-seen times on the monotonic clock, kept with the boot's identity (DESIGN section 6, Time).

Losing them, by a reboot or a lost file, only lengthens a wait.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from reconciler.engine.ports import ClockPort, JournalPort
from reconciler.model.observed import Elapsed

FILE = "times.json"


class Times:
    """First-seen times of the facts that hold now, and of those that the engine has marked."""

    def __init__(self, clock: ClockPort, journal: JournalPort) -> None:
        self._clock = clock
        self._journal = journal
        self._seen: dict[str, float] = {}
        self._marked: set[str] = set()
        self._load()

    def update(self, facts: Collection[str]) -> Elapsed:
        """Forget facts that no longer hold, remember new ones, and tell how long each has held."""
        now = self._clock.monotonic()
        kept = {fact: since for fact, since in self._seen.items() if fact in facts or fact in self._marked}
        for fact in facts:
            kept.setdefault(fact, now)
        changed = kept.keys() != self._seen.keys()
        self._seen = kept
        if changed:
            self._save()
        return Elapsed(seconds={fact: now - since for fact, since in kept.items()})

    def mark(self, fact: str) -> None:
        """Remember something that the engine did, until `unmark`."""
        self._marked.add(fact)
        self._seen.setdefault(fact, self._clock.monotonic())
        self._save()

    def keep_marks(self, still: Collection[str]) -> None:
        """Forget marks that are not in `still`."""
        gone = self._marked - set(still)
        if gone:
            self._marked -= gone
            for fact in gone:
                self._seen.pop(fact, None)
            self._save()

    def marks(self) -> frozenset[str]:
        """What is marked now."""
        return frozenset(self._marked)

    def _save(self) -> None:
        document = {"boot": self._clock.boot(), "seen": self._seen, "marked": sorted(self._marked)}
        self._journal.write(FILE, json.dumps(document, sort_keys=True).encode())

    def _load(self) -> None:
        try:
            document = json.loads(self._journal.read(FILE) or b"{}")
            if document.get("boot") != self._clock.boot():
                return
            now = self._clock.monotonic()
            self._seen = {str(fact): min(float(since), now) for fact, since in document["seen"].items()}
            self._marked = {str(fact) for fact in document["marked"]}
        except (ValueError, KeyError, TypeError, AttributeError):
            self._seen, self._marked = {}, set()  # a torn or foreign file: waits begin anew
