"""`cluster.yaml`: the servers, their zones, and the defaults of rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from reconciler.model import grammar as g
from reconciler.model.config import SourceModel


class ServerSource(SourceModel):
    """One server."""

    address: g.Address | None = Field(
        None, description="its private address, on which the others reach it; needed from two servers on"
    )
    zone: g.Name = "default"
    state: Literal["active", "drained"] = "active"


class RolloutDefaults(SourceModel):
    """How long a rollout waits."""

    ack_timeout: g.PositiveDuration = Field(90.0, description="for a silent server, before a switch goes on without it")
    progress_deadline: g.PositiveDuration = Field(600.0, description="for new instances to become ready")


class ClusterFile(SourceModel):
    """`cluster.yaml`."""

    servers: Mapping[g.Name, ServerSource] = Field(min_length=1)
    rollout: RolloutDefaults = RolloutDefaults()
    allow_removals: Annotated[tuple[g.RemovalTarget, ...], g.DISTINCT] = Field(
        (), description="project, project/env or project/env/service that may be removed together with many others"
    )
