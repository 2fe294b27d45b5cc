"""What became of one nginx in a switch."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.observed import NginxState


@dataclass(frozen=True)
class Switched:
    """`loaded`: verified to serve the text it was given. `verified_ms`: from HUP to the end of the verification, in milliseconds.

    `state`: as it was found then; its `error` is nginx's own line when the text was refused.
    """

    name: str
    loaded: bool
    verified_ms: float | None
    state: NginxState
