"""One server's own status, in `status/<server>:report.yaml`, written by that server alone (DESIGN section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import Field

from reconciler.model.base import Tolerant
from reconciler.model.identity import Slot

InstancePhase = Literal["preparing", "starting", "ready", "failed", "waiting", "live", "kept", "draining", "stalled"]


class Seen(Tolerant):
    """What the server had read when it wrote the report."""

    config: str
    epoch: str
    generation: int


class Serving(Tolerant):
    """The acknowledgement: every nginx of the server was verified to have this generation loaded.

    without: services that it does not speak of, as some nginx refused what they should be and serves them as before.
    """

    epoch: str
    generation: int
    verified_ms: float | None = None
    without: tuple[str, ...] = ()


class InstanceReport(Tolerant):
    """One instance on the server. A vote (`ready`, `failed`) counts only for the rollout it names."""

    service: str
    replica: int = 1
    slot: Slot
    spec: str
    port: int | None = None
    rollout: str | None = None
    revision: str | None = None  # the config revision it was started for
    phase: InstancePhase
    reason: str | None = None
    transient: bool = False  # failed, but from a cause that may pass: a new attempt, not an abort
    after_s: float | None = None  # from start to healthy
    image: str | None = None  # what the reference resolved to
    connections: int | None = None
    log: tuple[str, ...] = ()


class Condition(Tolerant):
    """A fact about the server or a service, in the Kubernetes manner: type, status, CamelCase reason, message."""

    type: str
    status: bool
    reason: str
    message: str = ""
    service: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class _Places:
    """The entries of `instances` by (service, replica, slot)."""

    instances: tuple[InstanceReport, ...]
    entries: Mapping[tuple[str, int, str], tuple[InstanceReport, ...]]

    @classmethod
    def of(cls, instances: tuple[InstanceReport, ...]) -> _Places:
        entries: dict[tuple[str, int, str], tuple[InstanceReport, ...]] = {}
        for entry in instances:
            place = (entry.service, entry.replica, entry.slot)
            entries[place] = (*entries.get(place, ()), entry)
        return cls(instances, entries)


class Report(Tolerant):
    """What one server says of itself. `refresh` asks for a one-server rollout (its secrets changed)."""

    schema_: int = Field(default=1, alias="schema")
    server: str
    instance: str
    program: str
    address: str | None = None  # the private one, by which other servers reach it
    seen: Seen | None = None
    serving: Serving | None = None
    retired: int | None = None
    instances: tuple[InstanceReport, ...] = ()
    conditions: tuple[Condition, ...] = ()
    refresh: tuple[str, ...] = ()
    retry: tuple[str, ...] = ()  # service keys that a person asked to try again

    def at(self, service: str, replica: int, slot: str) -> tuple[InstanceReport, ...]:
        """The entries of one place, in order. A decision asks for each place of each service: it must not look through all."""
        places = self._places
        if places.instances is not self.instances:  # this is a copy, made with other instances
            places = self.__dict__["_places"] = _Places.of(self.instances)
        return places.entries.get((service, replica, slot), ())

    @cached_property
    def _places(self) -> _Places:
        return _Places.of(self.instances)
