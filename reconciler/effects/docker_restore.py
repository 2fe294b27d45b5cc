"""Undo what was changed by hand in a running container, without a restart (FAULTS 18)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.effects.docker_api import DockerApi, one_line, short
from reconciler.effects.docker_networks import Networks
from reconciler.effects.docker_shape import ALL_NANO_CPUS, NO_LIMIT, UNLIMITED, Shape, effective_cpus, effective_memory
from reconciler.errors import Transient


class Restore:
    """Brings containers back to the shape they were made with."""

    def __init__(self, api: DockerApi, networks: Networks) -> None:
        self._api = api
        self._networks = networks

    def restore(self, identity: str, shape: Shape, found: Mapping[str, Any]) -> None:
        """Limits, restart policy, name and networks as in `shape`. `found` is Docker's inspect. Raises Transient."""
        if str(found["Name"]).lstrip("/") != shape.name:
            with self._api.call("update", f"rename container {short(identity)} to {shape.name}") as client:
                client.rename(identity, shape.name)
        self._limits(identity, shape, found["HostConfig"])
        if not found["HostConfig"]["NetworkMode"].startswith(("container:", "host")):
            self._join(identity, shape, (found.get("NetworkSettings") or {}).get("Networks") or {})

    def _limits(self, identity: str, shape: Shape, host: Mapping[str, Any]) -> None:
        # Docker reads 0 as "leave it": what limits nothing has to be written in other ways.
        update: dict[str, Any] = {}
        memory = effective_memory(host)
        if memory != shape.memory or (memory and host.get("MemorySwap") not in (-1, 2 * memory)):
            # -1 for the swap would not reach the kernel, which then refuses a memory limit above the old sum.
            update |= {"Memory": shape.memory or NO_LIMIT, "MemorySwap": 2 * shape.memory or NO_LIMIT}
        if effective_cpus(host) != shape.cpus:
            update["NanoCpus"] = shape.cpus or ALL_NANO_CPUS
        if max(host.get("PidsLimit") or 0, 0) != shape.pids:
            update["PidsLimit"] = shape.pids or -1
        if (host["RestartPolicy"].get("Name") or "no") != shape.restart:
            update["RestartPolicy"] = {"Name": shape.restart}
        update |= {field: free[-1] for field, _, free in UNLIMITED if host.get(field) not in free}
        if not update:
            return
        with self._api.call("update", f"set the limits of container {short(identity)} back") as client:
            # The library's own call knows neither CPUs nor the number of processes.
            url = f"{client.base_url}/v{client.api_version}/containers/{identity}/update"
            answer = client.post(url, json=update, timeout=client.timeout)
            if answer.status_code >= 400:
                raise Transient(f"the limits of container {shape.name} cannot be set back: {one_line(answer.text)}")

    def _join(self, identity: str, shape: Shape, found: Mapping[str, Any]) -> None:
        if not shape.may_join:
            for network in found.keys() - shape.networks.keys():
                self._networks.disconnect(identity, network)
        for network, address in shape.networks.items():
            endpoint = found.get(network)
            if endpoint is not None and not set(shape.aliases) <= set(endpoint.get("Aliases") or ()):
                self._networks.disconnect(identity, network)
            self._networks.connect(identity, network, address, shape.aliases)
