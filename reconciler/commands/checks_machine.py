"""Checks of the machine: Python, the state directory, secrets, address ranges, ports, privileges."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable

from reconciler.effects import machine
from reconciler.effects.docker import Docker
from reconciler.effects.docker_ports import ports_in_use
from reconciler.engine.settings import Settings
from reconciler.errors import ReconcilerError
from reconciler.render.terminal import listed
from reconciler.render.terminal_doctor import Check, Level

SLOT_PORTS = ((8000, 8999), (18000, 18999))
FREE_NEEDED = 256 * 1024**2
FREE_WANTED = 2 * 1024**3


def machine_checks(settings: Settings) -> Iterable[Check]:
    """What does not need Docker, first; what asks it about our containers and networks, last."""
    yield Check("python", "ok", ".".join(map(str, sys.version_info[:3])))
    yield _privileges()
    yield from _state(settings)
    yield _secrets(settings)
    yield _local_ports()
    yield from _ports(settings)
    yield _addresses(settings)


def _privileges() -> Check:
    lacking = [name for name, there in machine.capabilities().items() if not there]
    if not lacking:
        return Check("privileges", "ok", ", ".join(machine.CAPABILITIES))
    todo = "run as root, or give the service these capabilities: nginx is asked inside its network namespace"
    return Check("privileges", "fail", f"{', '.join(lacking)} missing", todo)


def _state(settings: Settings) -> Iterable[Check]:
    path = settings.state_dir
    if machine.writable(path):
        holder = machine.lock_holder(path)
        yield Check("state directory", "ok", f"{path}, " + (f"in use by {holder}" if holder else "free"))
    else:
        yield Check("state directory", "fail", f"{path} cannot be written", "run as its owner, or set state_dir to another place")
    free = machine.free_bytes(path)
    if free is None:
        yield Check("disk", "warn", f"the space at {path} cannot be told", "look at the disk yourself")
    else:
        level: Level = "ok" if free >= FREE_WANTED else "warn" if free >= FREE_NEEDED else "fail"
        yield Check("disk", level, f"{free / 1024**3:.1f} GiB free at {path}", "free some space" if level != "ok" else "")


def _secrets(settings: Settings) -> Check:
    exposed = machine.exposed_secrets(settings.local_dir)
    if exposed:
        names = listed([str(path) for path in exposed], 3)
        return Check(
            "secrets", "fail", f"any user can read {names}", "chmod 750 the secrets directory, or take `others` off the files"
        )
    return Check("secrets", "ok", f"{settings.local_dir}/<project>/<env>/secrets: none is readable by everybody")


def _local_ports() -> Check:
    found = machine.local_ports()
    if found is None:
        return Check(
            "outgoing ports", "warn", "ip_local_port_range cannot be read", "see that it does not overlap 8000-8999 and 18000-18999"
        )
    low, high = found
    hit = [f"{first}-{last}" for first, last in SLOT_PORTS if low <= last and high >= first]
    if hit:
        todo = "sysctl net.ipv4.ip_local_port_range='32768 60999', or add them to ip_local_reserved_ports; from two servers on"
        return Check("outgoing ports", "warn", f"{low}-{high} overlaps {', '.join(hit)}", todo)
    return Check("outgoing ports", "ok", f"{low}-{high}")


def _ports(settings: Settings) -> Iterable[Check]:
    ours = _our_names(settings)
    if settings.edge_name in ours:
        yield Check("edge ports", "ok", f"{', '.join(map(str, settings.edge_ports))}: ours, by {settings.edge_name}")
    else:
        taken = sorted(set(settings.edge_ports) & ports_in_use(settings.edge_address))
        if taken:
            todo = "stop what listens there, or set edge_ports"
            yield Check("edge ports", "fail", f"{', '.join(map(str, taken))} in use by somebody else", todo)
        else:
            yield Check("edge ports", "ok", f"{', '.join(map(str, settings.edge_ports))}: free")
    if not settings.host_listener:
        return
    port = settings.host_generation_port
    if settings.host_name in ours:
        yield Check("generation port", "ok", f"{port}: ours, by {settings.host_name}")
    elif port in ports_in_use("127.0.0.1"):
        yield Check(
            "generation port", "fail", f"{port} in use by somebody else", "stop what listens there, or set host_generation_port"
        )
    else:
        yield Check("generation port", "ok", f"{port}: free")


def _addresses(settings: Settings) -> Check:
    pool = ipaddress.IPv4Network(settings.network_pool)
    own = {ipaddress.ip_network(subnet) for subnet in _our_subnets(settings)}
    others = sorted({str(route) for route in machine.routes() if route.overlaps(pool) and route not in own})
    if others:
        todo = "set network_pool to a range that nothing else uses, before the first project is deployed"
        return Check("addresses", "warn", f"network_pool {pool} overlaps {listed(others)}", todo)
    return Check("addresses", "ok", f"network_pool {pool} overlaps nothing else")


def _our_names(settings: Settings) -> frozenset[str]:
    try:
        containers, _ = Docker(settings.docker, settings.server or "").containers()
    except ReconcilerError:
        return frozenset()
    return frozenset(container.name for container in containers if container.running)


def _our_subnets(settings: Settings) -> tuple[str, ...]:
    try:
        return tuple(Docker(settings.docker, settings.server or "").own_networks().values())
    except ReconcilerError:
        return ()
