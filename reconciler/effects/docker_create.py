"""A ContainerPlan as the arguments of Docker's create call. Pure."""

from __future__ import annotations

import math
from typing import Any

import docker
from docker.types import Mount as DockerMount
from docker.types import NetworkingConfig

from reconciler.effects.docker_shape import LABEL_EXPECTED, Shape, nano_cpus
from reconciler.model.container import ContainerPlan
from reconciler.model.desired import Mount


def create_config(
    client: docker.APIClient, plan: ContainerPlan, shape: Shape, namespace_id: str | None, tmpfs: tuple[str, ...]
) -> dict[str, Any]:
    """The body of `POST /containers/create`.

    `shape`: what to remember in a label. `namespace_id`: the id behind `plan.namespace_of`. `tmpfs`: image volumes to replace.
    """
    host = client.create_host_config(
        network_mode=_network_mode(plan, namespace_id),
        port_bindings={port.container_port: (port.host_address, port.host_port) for port in plan.publish} or None,
        mounts=[_mount(mount) for mount in plan.mounts] + [DockerMount(target, None, type="tmpfs") for target in tmpfs],
        restart_policy={"Name": plan.restart},
        init=True if plan.init else None,
        read_only=plan.read_only,
        privileged=plan.privileged,
        cap_add=list(plan.cap_add) or None,
        mem_limit=plan.resources.memory,
        nano_cpus=nano_cpus(plan.resources.cpus) or None,
        pids_limit=plan.resources.pids,
    )
    config: dict[str, Any] = client.create_container_config(
        plan.image,
        list(plan.command) if plan.command is not None else [],
        user=plan.user,
        working_dir=plan.working_dir,
        entrypoint=list(plan.entrypoint) if plan.entrypoint is not None else None,
        environment=[f"{name}={value}" for name, value in plan.env],
        ports=[(port.container_port, "tcp") for port in plan.publish] or None,
        labels={**plan.labels.to_docker(), LABEL_EXPECTED: shape.to_label()},
        stop_signal=plan.stop_signal,
        stop_timeout=math.ceil(plan.stop_grace),
        host_config=host,
        networking_config=_networking(client, plan),
    )
    if plan.command is None:
        config["Cmd"] = None  # the image's own; an empty list would do the same only on some versions
    return config


def unnamed_volumes(plan: ContainerPlan, image_volumes: tuple[str, ...]) -> tuple[str, ...]:
    """The image's VOLUMEs that no mount of the plan covers: Docker would make an anonymous volume for each."""
    targets = {_path(mount.target) for mount in plan.mounts}
    return tuple(volume for volume in image_volumes if _path(volume) not in targets)


def _path(text: str) -> str:
    return text.rstrip("/") or "/"


def _network_mode(plan: ContainerPlan, namespace_id: str | None) -> str:
    if plan.host_network:
        return "host"
    if namespace_id is not None:
        return f"container:{namespace_id}"
    return plan.network or "bridge"


def _networking(client: docker.APIClient, plan: ContainerPlan) -> NetworkingConfig | None:
    if plan.host_network or plan.namespace_of is not None or plan.network is None:
        return None
    endpoint = client.create_endpoint_config(ipv4_address=plan.address, aliases=list(plan.aliases) or None)
    return NetworkingConfig({plan.network: endpoint})  # type: ignore[arg-type]  # the stub names the wrong type


def _mount(mount: Mount) -> DockerMount:
    source = None if mount.kind == "tmpfs" else mount.source
    return DockerMount(mount.target, source, type=mount.kind, read_only=mount.read_only)
