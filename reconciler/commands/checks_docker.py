"""Checks of the Docker Engine and of the nginx image."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.effects import machine
from reconciler.effects.nginx import FLOOR
from reconciler.engine.settings import Settings
from reconciler.errors import ReconcilerError
from reconciler.render.terminal_doctor import Check

DOCKER_FLOOR = (20, 10)
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def docker_checks(settings: Settings) -> Iterable[Check]:
    """Raises Transient when Docker does not answer."""
    found = machine.engine(settings.docker)
    version = tuple(int(part) for part in found.version.split(".")[:2] if part.isdecimal())
    if version < DOCKER_FLOOR:
        yield Check("docker", "fail", f"Docker Engine {found.version}", "upgrade to 20.10 or newer")
    else:
        yield Check("docker", "ok", f"Docker Engine {found.version} at {settings.docker}")
    if found.live_restore:
        yield Check("live-restore", "ok", "on: containers outlive a restart of the daemon")
    else:
        todo = 'put {"live-restore": true} into /etc/docker/daemon.json: without it, a restart of Docker stops every container'
        yield Check("live-restore", "warn", "off", todo)
    lacking = [name for name, there in found.limits.items() if not there]
    if lacking:
        todo = "enable these cgroup controllers in the kernel; until then, `resources` of services are not kept"
        yield Check("limits", "warn", f"no limits of {', '.join(lacking)}", todo)
    else:
        yield Check("limits", "ok", ", ".join(found.limits))
    yield _nginx(settings)


def _nginx(settings: Settings) -> Check:
    image = settings.nginx_image
    wanted = ".".join(map(str, FLOOR))
    if not machine.has_image(settings.docker, image):
        why = machine.offered(settings.docker, image)
        if why is None:
            return Check("nginx image", "ok", f"{image} is not here yet; a registry offers it")
        return Check(
            "nginx image", "fail", f"{image} is not here and cannot be pulled: {why}", "docker load it, or set nginx_image"
        )
    try:
        said = machine.nginx_version(settings.docker, image)
    except ReconcilerError as error:
        return Check(
            "nginx image", "fail", f"{image}: nginx does not run in it: {error}", "set nginx_image to an official nginx image"
        )
    match = _VERSION.search(said)
    version = tuple(int(part or 0) for part in match.groups()) if match is not None else (0, 0, 0)
    if version < FLOOR:
        todo = f"set nginx_image to {wanted} or newer: older ones drop idle connections at each switch"
        return Check("nginx image", "fail", f"{image}: {said}", todo)
    return Check("nginx image", "ok", f"{image}: {said}")
