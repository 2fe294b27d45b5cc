"""What one call of `reconcile` was given, apart from the command's own options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.engine.settings import Settings, StatusSettings, environment, read_settings


@dataclass(frozen=True)
class Invocation:
    """Global options. `given` holds those that are settings, by the setting's name; None where not given."""

    config: Path | None = None
    given: Mapping[str, str | Path | None] = field(default_factory=dict)
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    status_repo: str | None = None

    def settings(self) -> Settings:
        """File, environment, options; the later wins. Raises Invalid with every problem."""
        settings = read_settings(self.config, environment(), self.given)
        if self.status_repo is None:
            return settings
        given = settings.status if isinstance(settings.status, StatusSettings) else StatusSettings()
        return settings.model_copy(update={"status": given.model_copy(update={"remote": self.status_repo})})

    @property
    def repo_given(self) -> bool:
        """Whether --repo stands on the command line, so that the repository itself is to be asked."""
        return self.given.get("repo") is not None
