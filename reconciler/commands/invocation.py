"""What one call of `reconcile` was given, apart from the command's own options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.engine.settings import Settings, environment, read_settings


@dataclass(frozen=True)
class Invocation:
    """Global options. `given` holds those that are settings, by the setting's name; None where not given."""

    config: Path | None = None
    given: Mapping[str, str | Path | None] = field(default_factory=dict)
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def settings(self) -> Settings:
        """File, environment, options; the later wins. Raises Invalid with every problem."""
        return read_settings(self.config, environment(), self.given)

    @property
    def repo_given(self) -> bool:
        """Whether --repo stands on the command line, so that the repository itself is to be asked."""
        return self.given.get("repo") is not None
