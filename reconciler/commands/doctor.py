"""`reconcile doctor`: is everything here that a server needs, and what to do where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict

from reconciler.commands import codes
from reconciler.commands.checks_docker import docker_checks
from reconciler.commands.checks_git import git_checks
from reconciler.commands.checks_machine import machine_checks
from reconciler.commands.invocation import Invocation
from reconciler.commands.output import show, show_json
from reconciler.engine.settings import DEFAULT_FILE, Settings
from reconciler.engine.wiring import policy
from reconciler.errors import Invalid, ReconcilerError
from reconciler.render.terminal_doctor import Check, doctor_page

Checks = Callable[[Settings], Iterable[Check]]


def doctor(invocation: Invocation) -> int:
    """Run every check; one that breaks is a failed one. Returns 2 when one failed, else 0."""
    found: list[Check] = []
    try:
        settings = invocation.settings()
    except Invalid as error:
        found.append(Check("settings", "fail", str(error), "correct them; the other checks need them"))
        settings = None
    if settings is not None:
        found += _settings(invocation, settings)
        groups: tuple[tuple[str, Checks], ...] = (("machine", machine_checks), ("docker", docker_checks), ("git", git_checks))
        for name, checks in groups:
            found += _guarded(name, checks, settings)
    if invocation.json:
        show_json([asdict(check) for check in found])
    else:
        show(doctor_page(found))
    return codes.FAILED if any(check.level == "fail" for check in found) else codes.CONVERGED


def _guarded(name: str, checks: Checks, settings: Settings) -> list[Check]:
    found: list[Check] = []
    try:
        for check in checks(settings):
            found.append(check)
    except (ReconcilerError, OSError) as error:
        found.append(Check(name, "fail", " ".join(str(error).split()), "the checks after this one were not made"))
    return found


def _settings(invocation: Invocation, settings: Settings) -> Iterable[Check]:
    file = invocation.config or DEFAULT_FILE
    read = str(file) if file.exists() else f"no {file}; environment and options only"
    missing = [name for name in ("repo", "server") if getattr(settings, name) is None]
    if missing:
        todo = f"set {' and '.join(missing)} in {file}, or give --{' --'.join(missing)}"
        yield Check("settings", "fail", f"{' and '.join(missing)} not set ({read})", todo)
    else:
        yield Check("settings", "ok", f"{settings.server}, {read}")
    try:
        policy(settings)
    except Invalid as error:
        yield Check("policy", "fail", str(error), "correct the file, or take `policy` out of the settings")
    else:
        yield Check("policy", "ok", str(settings.policy) if settings.policy else "none: nothing special is allowed")
