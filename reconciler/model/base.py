"""The base of every model: frozen, strict about unknown keys, and without surprises in equality."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A frozen value. Unknown fields are errors; readers of shared files that must tolerate them use `Tolerant`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Tolerant(BaseModel):
    """A frozen value read from a shared file: fields that a newer program added are kept and written back."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)
