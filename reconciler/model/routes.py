"""What one nginx is to do: upstreams, loopback listeners, public routes. `plan.routes` makes it, `render.nginx` writes it."""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Model


class Peer(Model):
    """One server line of an upstream: `address` is `name:port` or `ip:port`. A backup is used only when no primary accepts.

    live: a backup that has passed its gate and serves elsewhere, such as a backend of another zone; other backups are fallbacks.
    """

    address: str
    backup: bool = False
    live: bool = False
    weight: int = 1


class Upstream(Model):
    """A group of peers. `name` is `project_env_service`, the zone's and the upstream's name."""

    name: str
    peers: tuple[Peer, ...]


class Listener(Model):
    """A TCP listener on 127.0.0.1 that leads to an upstream (the mesh)."""

    port: int
    upstream: str


class Route(Model):
    """One public location. `upstream` None: 503 with Retry-After until the service has a live backend."""

    host: str  # "_" for any
    path: str
    rewrite: str | None
    upstream: str | None
    service: str
    read_timeout: float = 60.0
    body_limit: int = 0


class NginxConfig(Model):
    """The whole configuration of one nginx container.

    `edge` speaks HTTP on `http_ports`; `sidecar` and `host` have only loopback TCP listeners. The generation endpoint listens on
    127.0.0.1:`generation_port` in the container's network namespace and answers the fingerprint of the loaded text.
    """

    kind: Literal["edge", "sidecar", "host"]
    name: str  # the container's name
    generation_port: int
    http_ports: tuple[int, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    listeners: tuple[Listener, ...] = ()
    routes: tuple[Route, ...] = ()
    shutdown_timeout: float = 60.0  # worker_shutdown_timeout
