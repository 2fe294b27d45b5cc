"""`reconcile validate PATH`: every problem of a config repository, without a server, settings or Docker."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from reconciler.commands import codes
from reconciler.commands.invocation import Invocation
from reconciler.commands.output import problems, show, show_json, warn
from reconciler.effects.worktree import find_root, read_worktree
from reconciler.engine.settings import environment
from reconciler.errors import Invalid, Problem
from reconciler.model.policy import Policy, read_policy
from reconciler.model.source import Files
from reconciler.plan.desired import validate as find_problems
from reconciler.plan.sources import read_sources
from reconciler.render.terminal import Page, counted


def validate(invocation: Invocation, path: Path, policy: Path | None) -> int:
    """Show every problem of the repository at or around `path`; of a file or subdirectory, only what lies in it."""
    root = find_root(path)
    files = read_worktree(root)
    server = invocation.given.get("server") or environment().get("RECONCILER_SERVER")
    found = find_problems(files, _policy(policy), str(server) if server else None)
    inner = path.absolute().relative_to(root).as_posix() if path.absolute() != root else ""
    if inner:
        elsewhere = [problem for problem in found if not _within(problem.path, inner)]
        found = [problem for problem in found if _within(problem.path, inner)]
        if not invocation.quiet:
            other = f"; {counted(len(elsewhere), 'problem')} elsewhere in it" if elsewhere else ""
            warn(f"{path} was checked as part of the config repository {root}{other}")
    elif policy is None and not invocation.quiet and any("policy" in problem.message for problem in found):
        warn("without --policy FILE nothing special is allowed, as on a server that has no policy file")
    if invocation.json:
        show_json([asdict(problem) for problem in found])
    else:
        problems(str(problem) for problem in found)
        if not found and not invocation.quiet:
            show(Page(summary=_summary(files), tone="good"))
    return codes.INVALID if found else codes.CONVERGED


def _within(path: str, inner: str) -> bool:
    return path == inner or path.startswith(f"{inner}/")


def _summary(files: Files) -> str:
    projects = read_sources(files).projects
    if not projects:
        return "0 projects: valid, but nothing is desired. A project is projects/<project>/<environment>.yaml"
    services = sum(len(project.source.services) for project in projects.values())
    return f"{counted(len(projects), 'project')}, {counted(services, 'service')}: valid"


def _policy(file: Path | None) -> Policy:
    if file is None:
        return Policy()
    try:
        return read_policy(str(file), file.read_bytes())
    except OSError as error:
        raise Invalid([Problem(str(file), 0, 0, f"the policy cannot be read: {error.strerror}")]) from error
