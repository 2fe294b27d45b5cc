"""One server's images: what has been pulled, and what is asked for now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from reconciler.model.action import PrepareImage
from reconciler.model.observed import Image, ImageState

PULL = 3.0


@dataclass(frozen=True)
class _Asked:
    """`found`: the bytes that are here once it is `done`; None when there are none."""

    done: float
    found: str | None
    attempt: str
    failures: int


@dataclass
class Pulls:
    """Images as `engine/images.py` brings them about. `here`: reference -> the bytes that it named when it was pulled."""

    here: dict[str, str] = field(default_factory=dict)
    _asked: dict[str, _Asked] = field(default_factory=dict)

    def forget(self) -> None:
        """The program ends: what Docker has stays."""
        self._asked = {}

    def prepare(self, action: PrepareImage, now: float, *, answers: bool) -> None:
        """A rollout asks what its tag means now; what is here is good enough while the registry does not answer."""
        reference = action.reference
        known = self._asked.get(reference)
        failures = known.failures + 1 if known is not None and known.attempt == action.attempt else 0
        here = reference if reference in self.here.values() else self.here.get(reference)
        done, found = now, here
        if here is None or (action.attempt and "@" not in reference):
            done += PULL
            if answers and not reference.endswith("unbuildable"):
                found = _bytes_of(reference, done)
        self._asked[reference] = _Asked(done, found, action.attempt, failures)

    def arrive(self, now: float) -> None:
        """What has been pulled by now is there for good."""
        for reference, asked in self._asked.items():
            if asked.found is not None and asked.done <= now:
                self.here[reference] = asked.found

    def states(self, now: float) -> Iterator[tuple[str, ImageState]]:
        """For `Observed.images`."""
        for reference, asked in self._asked.items():
            yield reference, _state(reference, asked, now < asked.done)


@lru_cache(maxsize=1024)
def _state(reference: str, asked: _Asked, pulled: bool) -> ImageState:
    """`pulled`: it is on its way."""
    attempt, found = asked.attempt, asked.found
    if pulled:
        return ImageState.model_construct(status="preparing", attempt=attempt, failures=asked.failures)
    if found is not None:
        image = Image.model_construct(id=found, reference=found, volumes=(), exposed=())
        return ImageState.model_construct(status="present", image=image, attempt=attempt)
    hard = reference.endswith("unbuildable")
    why = "build failed" if hard else "registry does not answer"
    return ImageState.model_construct(status="failed", attempt=attempt, error=why, transient=not hard, failures=asked.failures + 1)


def _bytes_of(reference: str, at: float) -> str:
    """What a reference names in the registry when it is pulled: its tags move every minute."""
    name, _, tag = reference.partition(":")
    return reference if "@" in reference else f"{name}@{tag}.{int(at // 60.0)}"
