"""Checks of git, the config repository and its status branches."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from reconciler.effects import machine
from reconciler.engine.settings import Settings
from reconciler.engine.wiring import git_settings
from reconciler.render.terminal_doctor import Check

GIT_FLOOR = (2, 31)
_SSH = re.compile(r"^ssh://|^[^/:]+@[^/:]+:")
_HOST = re.compile(r"^(?:ssh://)?(?:[^@/]*@)?\[?([^\]/:]+)")


def git_checks(settings: Settings) -> Iterable[Check]:
    """Raises Transient when the repository cannot be reached."""
    version = machine.git_version()
    words = ".".join(map(str, version))
    if version < GIT_FLOOR:
        yield Check("git", "fail", f"git {words}", "upgrade to 2.31 or newer")
    else:
        yield Check("git", "ok", f"git {words}")
    if settings.repo is None:
        return
    if _SSH.search(settings.repo):
        yield _known_hosts(settings, settings.repo)
    options = git_settings(settings)
    with tempfile.TemporaryDirectory(prefix="reconcile-doctor-") as directory:
        found = machine.remotes(options, Path(directory))
    if settings.branch in found.branches:
        yield Check("repository", "ok", f"reachable, branch {settings.branch} is there")
    else:
        heads = [name for name in found.branches if not name.startswith(options.status_branch_prefix)]
        there = ", ".join(sorted(heads)[:5]) or "none"
        yield Check(
            "repository", "fail", f"reachable, but has no branch {settings.branch}; it has: {there}", "set branch, or push it"
        )
    if not options.status:
        yield Check("status branches", "warn", "status is off", "set a repository for them, to see what runs from anywhere")
    elif found.write_error is None:
        yield Check("status branches", "ok", "a push is let in (rules of the host for single branches cannot be rehearsed)")
    else:
        todo = (
            "give a key that may write status/* branches, set `status: {remote: ...}` to a repository of its own, or `status: off`"
        )
        yield Check("status branches", "fail", f"a push is refused: {found.write_error}", todo)


def _known_hosts(settings: Settings, url: str) -> Check:
    host = match[1] if (match := _HOST.search(url)) else url
    if settings.known_hosts is None:
        todo = "set known_hosts to a file that holds this host's key alone; until then the system's files are used"
        return Check("known_hosts", "warn", f"the key of {host} is not pinned", todo)
    if not settings.known_hosts.is_file():
        return Check(
            "known_hosts", "fail", f"{settings.known_hosts} is not there", f"ssh-keyscan {host}, compare, and write it there"
        )
    return Check("known_hosts", "ok", f"{settings.known_hosts}")
