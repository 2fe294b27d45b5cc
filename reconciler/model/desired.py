"""What the config asks for, resolved: every default filled in, every service placed. Made by `plan.desired`, never by hand.

Durations are seconds (float), sizes are bytes (int).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from reconciler.errors import Problem
from reconciler.model.base import Model
from reconciler.model.identity import ServiceKey

Strategy = Literal["toggle", "rolling", "recreate"]


class Health(Model):
    """The health gate of a service. `none` is never the default: without a check given it is `tcp` on the service's port."""

    kind: Literal["http", "tcp", "command", "docker"] = "tcp"
    path: str = "/"
    port: int | None = None  # None: the service's container port
    command: tuple[str, ...] = ()
    interval: float = 2.0
    timeout: float = 2.0
    retries: int = 15  # consecutive failures after start_period that fail the gate
    start_period: float = 0.0
    successes: int = 2  # consecutive successes needed
    min_healthy_time: float = 0.0  # and healthy for at least this long


class Drain(Model):
    """How an old slot ends. `signal`: after the quiet time, tell the application and wait for it until `timeout`."""

    websockets: Literal["signal", "wait", "cut"] = "signal"
    timeout: float = 30.0
    grace: float = 10.0  # from the stop signal to SIGKILL


class Mount(Model):
    """One mount of the application's container."""

    kind: Literal["volume", "bind", "tmpfs"]
    source: str  # volume: its full name on the server; bind: an absolute host path; tmpfs: ""
    target: str
    read_only: bool = False
    shared: bool = False


class Resources(Model):
    """Limits; None means Docker's default."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


class Build(Model):
    """An image built from the config repository: `tree` is the digest of the context, the same on every server."""

    context: str  # path in the repository, such as projects/shop
    dockerfile: str  # path relative to the context
    tree: str  # hex digest
    files: tuple[tuple[str, int, str], ...]  # (path in the context, mode, object id), sorted

    @property
    def tag(self) -> str:
        """The local image reference that promises this tree."""
        return f"reconciler/build:{self.tree[:32]}"


class ContainerSpec(Model):
    """Everything that shapes the application's container. `digest` is the spec digest (DESIGN section 3)."""

    digest: str
    image: str | None = None  # as given; None when `build` is set
    build: Build | None = None
    port: int  # container port
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    working_dir: str | None = None
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[str, ...] = ()  # names of files in the server's secrets directory for the project and environment
    resources: Resources = Resources()
    health: Health = Health()
    stop_signal: str | None = None
    init: bool = False
    read_only: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    sidecar: bool = True  # False: joins the project network itself (explicit `needs: {}`)
    publish: bool = False  # multi_server mode: the host port is mapped on the server's private address
    stateless: bool = False  # image VOLUMEs not named under mounts become tmpfs instead of stalling
    needs: tuple[tuple[str, ServiceKey], ...] | None = None  # (alias, provider) when given; None: everything in the project


class Rolling(Model):
    """How a rolling rollout goes from server to server (`plan.rolling`)."""

    max_parallel: int = 1  # servers that are switched at a time
    max_unavailable: int = 0  # servers that may lack a healthy instance while further ones are switched
    soak: float = 30.0  # seconds for which the switched instances have to stay healthy before the next servers are
    on_failure: Literal["abort_all", "abort_local"] = "abort_all"


class PublicRoute(Model):
    """One public entry at the edge."""

    hosts: tuple[str, ...]  # "_" for any host
    path: str = "/"
    rewrite: str | None = None  # None: the path is passed on unchanged
    read_timeout: float = 60.0
    body_limit: int = 0  # bytes, 0: no limit


class DesiredService(Model):
    """One service, resolved and placed."""

    key: ServiceKey
    spec: ContainerSpec
    strategy: Strategy = "toggle"
    rolling: Rolling = Rolling()
    replicas: int = 1
    servers: tuple[str, ...]  # where it is placed, sorted; a stateful service's recorded placement wins over this
    pinned: bool = False  # `servers:` was given
    stateful: bool = False
    rollback_image: bool = False  # recreate: go back by itself when the new process never became healthy
    internal_port: int
    public: tuple[PublicRoute, ...] = ()
    drain: Drain = Drain()
    suspend: bool = False
    progress_deadline: float = 600.0
    stalled: str | None = None  # why it cannot be placed or started, such as too few servers in its zone
    homeless: bool = False  # `stalled` is only about where it should be: what stays where it is need not care


class ServerEntry(Model):
    """One server of the inventory."""

    name: str
    address: str | None = None
    zone: str = "default"
    state: Literal["active", "drained"] = "active"


class Revision(Model):
    """A config commit."""

    sha: str
    subject: str = ""

    @property
    def short(self) -> str:
        """The first seven hex digits."""
        return self.sha[:7]

    def __str__(self) -> str:
        return f'{self.short} "{self.subject}"'


class Desired(Model):
    """The whole desired state at one revision, plus the specs of other revisions that are still live somewhere.

    `invalid` maps `project/env` to what is wrong with its file; such a project stays at its last valid revision.
    `library` holds services as they are at other revisions, by (key, spec digest), for healing and for draining.
    """

    revision: Revision
    servers: Mapping[str, ServerEntry]
    services: Mapping[ServiceKey, DesiredService]
    invalid: Mapping[str, tuple[Problem, ...]] = {}
    warnings: tuple[Problem, ...] = ()
    library: Mapping[tuple[ServiceKey, str], DesiredService] = {}
    allow_removals: tuple[str, ...] = ()  # service keys, projects/envs or projects that may be removed en masse
    ack_timeout: float = 90.0

    def service_at(self, key: ServiceKey, digest: str) -> DesiredService | None:
        """The service as the config described it when its spec digest was `digest`."""
        current = self.services.get(key)
        if current is not None and current.spec.digest == digest:
            return current
        return self.library.get((key, digest))
