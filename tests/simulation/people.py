"""What people commit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.trace import Commit
from tests.simulation.versions import LINES, Service, Tree, revision

if TYPE_CHECKING:
    from tests.simulation.world import World

KINDS = ("good", "good", "good", "good", "late", "bad", "bad@", "unbuildable")


def commit(world: World, event: Commit) -> str:
    """Make the commit. Returns what it was."""
    commits, tree = world.commits, world.commits.tree
    names = sorted(tree.services)
    service = tree.services[names[event.pick % len(names)]] if names else None
    made = _commit(world, event, service)
    return f"commit {revision(commits.head).short}: {made}" if made else f"no commit {event.kind}"


def _commit(world: World, event: Commit, service: Service | None) -> str | None:
    commits, tree, kind = world.commits, world.commits.tree, event.kind
    if kind == "secret":
        for daemon in world.daemons.values():
            daemon.locals["api"] = f"secret{event.value}"
        return None
    if kind == "revert" and commits.head > 0:
        earlier = commits.trees[commits.parents[commits.head]] if commits.parents[commits.head] >= 0 else tree
        commits.commit(Tree(earlier.services, earlier.servers, ("shop", "blog")))
        return "revert"
    if kind == "rewrite" and commits.head > 0:
        back = commits.head
        for _ in range(1 + event.pick % 3):
            back = max(0, commits.parents[back])
        bumped = {n: commits.bump(s, "good") if event.value % 2 else s for n, s in commits.trees[back].services.items()}
        commits.commit(Tree(bumped, commits.trees[back].servers, ("shop", "blog")), parent=back)
        return f"history rewritten from {revision(back).short}"
    if kind == "inventory":
        return _inventory(world, event)
    if kind in ("grow", "shrink"):
        return _resized(world, event)
    if kind == "add":
        missing = [s for s in world.scene.services if s.name not in tree.services]
        if missing:
            fresh = missing[event.pick % len(missing)]
            commits.change(commits.bump(fresh, "good"))
            return f"add {fresh.name}"
        return None
    if kind == "all":
        bumped = {n: commits.bump(s, "good") for n, s in tree.services.items()}
        commits.commit(Tree(bumped, tree.servers))
        return "update of all"
    return _change(world, event, service) if service is not None else None


def _change(world: World, event: Commit, service: Service) -> str | None:
    commits = world.commits
    match event.kind:
        case "update":
            quality = KINDS[event.value % len(KINDS)]
            names = sorted(world.daemons)
            quality += names[event.value // len(KINDS) % len(names)] if quality.endswith("@") else ""
            fresh = commits.bump(service, quality)
        case "remove":
            commits.change(None, service.name)
            return f"remove {service.name}"
        case "suspend":
            fresh = replace(service, suspend=not service.suspend)
        case "public":
            fresh = replace(service, public=not service.public)
        case "strategy" if not service.recreate:
            fresh = replace(service, rolling=None if service.rolling is not None else LINES[event.value % len(LINES)])
        case "replicas" if not service.recreate:
            fresh = replace(service, replicas=1 + event.value % 2)
        case "place" if not service.recreate:
            count = 1 + event.value % len(world.commits.tree.servers)
            fresh = replace(service, count=count, pins=())
        case "move" if not service.recreate:
            # To where it is not, on one server: what lists only the old place has no way to the new one.
            here = world.commits.desired(commits.head).services[service.key].servers
            names = [name for name in sorted(world.commits.tree.servers) if name not in here] or sorted(world.commits.tree.servers)
            fresh = replace(service, pins=(names[event.value % len(names)],))
        case "pin":
            names = sorted(world.commits.tree.servers)
            first = event.value % len(names)
            fresh = replace(service, pins=tuple(names[first : first + (1 if service.recreate else 2)]))
        case _:
            return None
    if fresh == service:
        return None
    commits.change(fresh)
    return f"{event.kind} {service.name} -> {fresh.digest.removeprefix('sha256:')}"


def _resized(world: World, event: Commit) -> str:
    """All of the machines, or one of those that are there; what is asked to be everywhere is."""
    tree, machines = world.commits.tree, world.scene.machines
    names = sorted(tree.servers)
    kept = [names[event.pick % len(names)]] if event.kind == "shrink" else [machine.name for machine in machines]
    servers = {m.name: tree.servers.get(m.name, (m.zone, "active")) for m in machines if m.name in kept}
    active = sum(1 for _, state in servers.values() if state == "active")
    fit = {n: replace(s, count=active if n == "web" else min(s.count, active)) for n, s in tree.services.items()}
    world.commits.commit(Tree(fit, servers, ("shop", "blog")))
    return f"the servers are {', '.join(servers)}"


def _inventory(world: World, event: Commit) -> str | None:
    tree = world.commits.tree
    servers = dict(tree.servers)
    names = [machine.name for machine in world.scene.machines]
    name = names[event.pick % len(names)]
    zone = next(m.zone for m in world.scene.machines if m.name == name)
    if name not in servers:
        servers[name] = (zone, "active")
        what = "added"
    elif servers[name][1] == "drained":
        servers[name] = (zone, "active")
        what = "active again"
    elif event.value % 3 == 0 and len(servers) > 1:
        del servers[name]
        what = "removed"
    elif len([n for n, (_, state) in servers.items() if state == "active"]) > 1:
        servers[name] = (zone, "drained")
        what = "drained"
    else:
        return None
    world.commits.commit(Tree(tree.services, dict(sorted(servers.items())), tree.allow))
    return f"server {name} {what}"
