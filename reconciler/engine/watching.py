"""Files on this machine whose change is noticed at once; without that, at the next poll."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from watchfiles import watch

from reconciler.engine.settings import Settings
from reconciler.engine.wiring import repository_url

SECRETS = "secrets"
PROJECT_AND_ENVIRONMENT = 2


@dataclass(frozen=True)
class Noticed:
    """What may have changed. Neither: a secret."""

    settings: bool = False
    commits: bool = False


def watching(
    settings: Settings, files: Sequence[Path], notice: Callable[[Noticed], None], say: Callable[[str], None], ended: threading.Event
) -> None:
    """Watch until `ended`: the branches of a repository on this machine, `files` (settings, policy), and the secrets.

    notice: called from this thread, first when the watch has begun. say: gets a line when the kernel refuses to watch.
    """
    repository = _local_repository(settings)
    heads = [repository / "refs", repository / "packed-refs", repository / "HEAD"] if repository is not None else []
    watched = {path for path in (*heads, *(file.parent for file in files), settings.local_dir) if path.exists()}
    if not watched:
        return
    try:
        _watch(watched, repository, settings.local_dir, files, notice, ended)
    except (OSError, RuntimeError) as error:  # watchfiles has both for what the kernel refuses
        say(
            f"cannot watch files: {error}; secrets, settings and commits that change on this machine are seen at the next poll "
            "only, until the reconciler is started again (does fs.inotify.max_user_instances or .max_user_watches allow it?)"
        )


def _watch(
    watched: set[Path],
    repository: Path | None,
    local: Path,
    files: Sequence[Path],
    notice: Callable[[Noticed], None],
    ended: threading.Event,
) -> None:
    begun = False
    # Without a filter, as the default one leaves out everything that lies in a directory `.git`.
    for changes in watch(
        *watched, watch_filter=None, stop_event=ended, debounce=50, step=20, raise_interrupt=False,
        rust_timeout=1000, yield_on_timeout=True,
    ):  # fmt: skip
        paths = [Path(path) for _, path in changes]
        # Nobody has seen what changed between the first look and the beginning of the watch: all is looked at once more.
        changed = Noticed(
            settings=not begun or any(path in files for path in paths),
            commits=repository is not None and (not begun or any(path.is_relative_to(repository) for path in paths)),
        )
        if changed != Noticed() or any(_leads_to_secrets(path, local) for path in paths):
            notice(changed)
        begun = True


def _leads_to_secrets(path: Path, local: Path) -> bool:
    """Not what applications keep beside their secrets: a busy database must not wake the daemon."""
    if not path.is_relative_to(local):
        return False
    below = path.relative_to(local).parts
    return len(below) <= PROJECT_AND_ENVIRONMENT or below[PROJECT_AND_ENVIRONMENT] == SECRETS


def _local_repository(settings: Settings) -> Path | None:
    """The Git directory of a repository on this machine."""
    parts = urlsplit(repository_url(settings.repo or ""))
    if parts.scheme != "file":
        return None
    path = Path(unquote(parts.path))
    return path / ".git" if (path / ".git").is_dir() else path
