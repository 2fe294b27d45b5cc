"""Effects as data: the steps that actions are made of, each of which a crash may come before or after."""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Model
from reconciler.model.container import ContainerPlan


class CreateNetwork(Model):
    """Make a project network."""

    kind: Literal["create_network"] = "create_network"
    name: str
    subnet: str


class RemoveNetwork(Model):
    """Remove a project network; `leaving` are containers of ours that are taken off it first."""

    kind: Literal["remove_network"] = "remove_network"
    name: str
    leaving: tuple[str, ...] = ()


class Connect(Model):
    """Join a container to a network at an address."""

    kind: Literal["connect"] = "connect"
    container: str
    network: str
    address: str


class WriteConfig(Model):
    """Put the configuration of an nginx that is not running yet into its directory."""

    kind: Literal["write_config"] = "write_config"
    name: str
    text: str


class ForgetConfig(Model):
    """Remove the configuration directory of an nginx whose container is gone."""

    kind: Literal["forget_config"] = "forget_config"
    name: str


class Create(Model):
    """Create a container."""

    kind: Literal["create"] = "create"
    plan: ContainerPlan


class Start(Model):
    """Start a container, by id or name."""

    kind: Literal["start"] = "start"
    container: str


class Unpause(Model):
    """Let a frozen container go on."""

    kind: Literal["unpause"] = "unpause"
    container: str


class Stop(Model):
    """Stop signal, `grace` seconds, SIGKILL."""

    kind: Literal["stop"] = "stop"
    container: str
    name: str
    grace: float


class Signal(Model):
    """Send the stop signal and do not wait. None: the container's own, which its image may have set."""

    kind: Literal["signal"] = "signal"
    container: str
    signal: str | None


class Remove(Model):
    """Remove a stopped container, never its volumes."""

    kind: Literal["remove"] = "remove"
    container: str


class Restore(Model):
    """Undo what was changed by hand."""

    kind: Literal["restore"] = "restore"
    container: str
    plan: ContainerPlan


class SwitchTarget(Model):
    """One nginx and the text that it is to have."""

    name: str
    text: str
    fingerprint: str
    port: int


class Switch(Model):
    """Bring running nginxes to their texts, all together, and verify it."""

    kind: Literal["switch"] = "switch"
    targets: tuple[SwitchTarget, ...]


Effect = (
    CreateNetwork
    | RemoveNetwork
    | Connect
    | WriteConfig
    | ForgetConfig
    | Create
    | Start
    | Unpause
    | Stop
    | Signal
    | Remove
    | Restore
    | Switch
)
