"""What a server is to do now. Actions are values; `engine.executor` knows the steps of each. Every action states its cause."""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Model
from reconciler.model.container import ContainerPlan
from reconciler.model.desired import Build
from reconciler.model.identity import InstanceKey
from reconciler.model.routes import NginxConfig


class EnsureNetwork(Model):
    """Make the project network, with a subnet of the pool."""

    kind: Literal["ensure_network"] = "ensure_network"
    name: str
    subnet: str
    cause: str


class PrepareImage(Model):
    """Have an image here, by pull or build, in the background. `reference` is what containers will name."""

    kind: Literal["prepare_image"] = "prepare_image"
    reference: str
    build: Build | None = None
    attempt: str = ""  # the rollout that needs it, as `service@rollout`
    cause: str


class StartInstance(Model):
    """Create and start an instance: its sidecar first (with its configuration written before), then the application.

    `sidecar` None: it needs none, or the one that is there and whole stays. `replaces` are ids of containers in the way (crashed,
    half made, changed by hand), removed first.
    """

    kind: Literal["start_instance"] = "start_instance"
    instance: InstanceKey
    application: ContainerPlan
    sidecar: ContainerPlan | None = None
    sidecar_config: NginxConfig | None = None
    replaces: tuple[str, ...] = ()
    grace: float = 10.0
    cause: str


class StartContainer(Model):
    """Start (or unpause) a container that exists and is as it should be."""

    kind: Literal["start_container"] = "start_container"
    id: str
    name: str
    paused: bool = False
    cause: str


class SignalInstance(Model):
    """Send the stop signal to a draining application and leave it time; it is removed when it is gone or its time is up."""

    kind: Literal["signal_instance"] = "signal_instance"
    instance: InstanceKey
    id: str
    signal: str | None = None
    cause: str


class RemoveInstance(Model):
    """Stop (signal, grace, SIGKILL) and remove containers of ours, applications before sidecars. Never volumes.

    nginx: the container among them, or that was among them, whose configuration goes too; None when there is none.
    """

    kind: Literal["remove_instance"] = "remove_instance"
    name: str
    ids: tuple[str, ...]
    nginx: str | None = None
    names: tuple[str, ...] = ()  # of the containers, in the order of `ids`, for people
    grace: float
    cause: str


class StartNginx(Model):
    """Create and start the edge or the host listener, or replace one that is not as it should be."""

    kind: Literal["start_nginx"] = "start_nginx"
    container: ContainerPlan
    config: NginxConfig
    networks: tuple[tuple[str, str], ...] = ()  # (network, address) to join besides the plan's own
    replaces: tuple[str, ...] = ()
    cause: str


class ConnectNetwork(Model):
    """Join a running container to a project network at a fixed address."""

    kind: Literal["connect_network"] = "connect_network"
    container: str
    network: str
    address: str
    cause: str


class RestoreContainer(Model):
    """Undo what was changed by hand on a container (limits, name, network, restart policy) without restarting it."""

    kind: Literal["restore_container"] = "restore_container"
    id: str
    plan: ContainerPlan
    drift: tuple[str, ...]
    cause: str


class RemoveNetwork(Model):
    """Remove a project network that nothing of ours needs any more; the edge leaves it first."""

    kind: Literal["remove_network"] = "remove_network"
    name: str
    leaving: tuple[str, ...] = ()
    cause: str


class Reload(Model):
    """Bring running nginxes to these configurations: write, test, HUP all, verify all. One per pass."""

    kind: Literal["reload"] = "reload"
    configs: tuple[NginxConfig, ...]
    cause: str


Action = (
    EnsureNetwork
    | PrepareImage
    | StartInstance
    | StartContainer
    | SignalInstance
    | RemoveInstance
    | StartNginx
    | ConnectNetwork
    | RestoreContainer
    | RemoveNetwork
    | Reload
)


def instance_of(action: Action) -> str | None:
    """The instance that an action concerns alone; None for what concerns the server."""
    match action:
        case StartInstance() | SignalInstance():
            return action.instance.name
        case StartContainer() | RemoveInstance():
            return action.name
        case RestoreContainer():
            return action.plan.name
        case _:
            return None
