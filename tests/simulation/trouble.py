"""What goes wrong on servers and at the remote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.cluster import ClusterState
from tests.simulation.boxes import Box
from tests.simulation.daemon import Daemon
from tests.simulation.disk import Disk
from tests.simulation.remote import CLUSTER
from tests.simulation.trace import Fault

if TYPE_CHECKING:
    from tests.simulation.world import World


def strike(world: World, fault: Fault) -> str:
    """Do it. Returns what was hit."""
    if fault.kind in ("lose report", "rewind report"):
        return _report(world, fault)
    if fault.kind in ("delete", "rewind", "replace"):
        done = _tamper(world, fault)
        world.invariants.tampered()
        return done
    if fault.kind == "loss":
        _loss(world)
        world.invariants.tampered()
        return ""
    if fault.kind == "clone":
        return _clone(world, fault)
    daemon = world.daemons.get(fault.server)
    if daemon is None:
        return "nothing"
    if fault.kind in ("kill", "remove", "pause", "flap", "sidecar"):
        return _container(world, daemon, fault)
    match fault.kind:
        case "refuse":
            if fault.pick % 2:
                names = sorted(service.name for service in world.scene.services)
                daemon.boxes.disliked = "" if daemon.boxes.disliked else f"shop_prod_{names[fault.pick % len(names)]}"
                return daemon.boxes.disliked
            daemon.boxes.refuses = not daemon.boxes.refuses
        case "edge":
            for box in daemon.boxes.boxes.values():
                if box.plan.labels.role in ("edge", "host"):
                    daemon.boxes.ends(box, 137)
                    return box.plan.name
        case "docker":
            daemon.boxes.deaf_until = world.now + fault.seconds
        case "stall":
            daemon.boxes.stalled_until = world.now + fault.seconds
        case "cut":
            daemon.cut_until = world.now + fault.seconds
        case "remote":
            for other in world.daemons.values():
                other.cut_until = world.now + fault.seconds
        case "away":
            daemon.restart()
            daemon.away_until = world.now + fault.seconds
        case "power":
            _power(world, daemon, fault)
        case "state":
            _forgets(world, daemon)
        case "program":
            daemon.restart()
            daemon.program = str(1 + fault.pick % 2)
            return f"version {daemon.program}"
    return f"{fault.seconds:.0f} s" if fault.seconds else ""


def _container(world: World, daemon: Daemon, fault: Fault) -> str:
    role = "sidecar" if fault.kind == "sidecar" else "application"
    boxes = [b for b in daemon.boxes.boxes.values() if b.instance is not None and b.plan.labels.role == role]
    if not boxes:
        return "nothing"
    box = boxes[fault.pick % len(boxes)]
    world.invariants.hits(daemon, box)
    kind = ("kill", "remove", "pause")[fault.pick % 3] if fault.kind == "sidecar" else fault.kind
    if kind == "kill":
        daemon.boxes.ends(box, 137)
    elif kind == "flap" and box.status == "running":
        box.status, box.restarts = "restarting", box.restarts + 1
        daemon.boxes.version += 1
        world.due.append((world.now + fault.seconds, "flap", box.id))
    elif kind == "pause" and box.status == "running":
        box.status = "paused"
        daemon.boxes.version += 1
    elif kind == "remove":
        daemon.boxes.ends(box, 137)
        del daemon.boxes.boxes[box.id]
    return f"{kind} {box.plan.name}"


def _power(world: World, daemon: Daemon, fault: Fault) -> None:
    """The machine loses its power and boots: Docker starts what it is told to start always."""
    boots: list[Box] = []
    for box in daemon.boxes.boxes.values():
        if box.instance is not None:
            world.invariants.hits(daemon, box)
        if box.status in ("running", "paused", "restarting"):
            daemon.boxes.ends(box, 255)
            box.status = "exited"
            if box.plan.restart == "always":
                boots.append(box)
    for box in boots:
        daemon.boxes.starts(box, world.now)
    daemon.restart()
    daemon.disk.times, daemon.disk.marks = {}, set()
    daemon.away_until = world.now + fault.seconds


def _report(world: World, fault: Fault) -> str:
    """Somebody changes a report's branch by hand."""
    if any(d.machine != d.name for d in world.daemons.values()):
        return "nothing"  # with its clone about, nobody could tell the two apart
    if fault.kind == "lose report":
        # Whoever could write it anew is away for a while.
        world.remote.refs.pop(fault.server, None)
        daemon = world.daemons[fault.server]
        daemon.restart()
        daemon.away_until = world.now + fault.seconds
    else:
        world.remote.rewind(fault.server, 1 + fault.pick % 3)
    return ""


def _tamper(world: World, fault: Fault) -> str:
    """Somebody changes the shared decision by hand."""
    remote = world.remote
    found = remote.cluster
    if fault.kind == "delete" or found is None:
        remote.refs.pop(CLUSTER, None)
        return "deleted"
    if fault.kind == "rewind":
        remote.rewind(CLUSTER, 1 + fault.pick % 6)
        return "rewound"
    earlier = [c for _, c in remote.commits.values() if isinstance(c, ClusterState)]
    oid = remote.name()
    remote.commits[oid] = ((), earlier[fault.pick % len(earlier)])
    remote.refs[CLUSTER] = oid
    return "replaced by an earlier one, without its history"


def _forgets(world: World, daemon: Daemon) -> None:
    daemon.restart()
    daemon.disk = Disk()
    daemon.identity = f"{daemon.machine}{world.now:.1f}"


def _loss(world: World) -> None:
    """The repository of the status branches is a new one, and every server's state directory is lost with it."""
    world.remote.refs.clear()
    world.remote.flying.clear()
    for daemon in world.daemons.values():
        _forgets(world, daemon)


def _clone(world: World, fault: Fault) -> str:
    """A machine was cloned: another one believes to be the same server."""
    report = world.remote.reports().get(fault.server)
    if report is None or any(d.machine != d.name for d in world.daemons.values()):
        return "nothing"
    world.add("z", fault.server, 1.0)
    return "z believes to be it"
