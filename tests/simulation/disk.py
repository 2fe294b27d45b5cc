"""What a simulated program has of the remote, and what it keeps on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.engine.following import Copy
from reconciler.model.report import Report
from tests.simulation.remote import Content


@dataclass(frozen=True)
class View:
    """What a fetch brought."""

    head: int
    cluster: Content | None
    oid: str | None
    reports: Mapping[str, Report]
    oids: Mapping[str, str]


@dataclass
class Disk:
    """What survives the program's end."""

    own: Copy | None = None
    view: View | None = None
    times: dict[str, float] = field(default_factory=dict)
    marks: set[str] = field(default_factory=set)
