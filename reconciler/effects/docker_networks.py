"""Project networks: bridges with a subnet of ours, in which every slot has a fixed address (DESIGN section 4)."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Mapping
from typing import Any

import docker.errors
from docker.types import IPAMConfig, IPAMPool

from reconciler.effects.docker_api import DockerApi, explain
from reconciler.effects.docker_shape import endpoint_address
from reconciler.errors import Stalled, Transient
from reconciler.model.container import LABEL_SERVER


class Networks:
    """The networks of one daemon. What was listed is kept while the event stream is up and says nothing of networks."""

    def __init__(self, api: DockerApi) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._listed: list[Mapping[str, Any]] | None = None
        self.watched = False  # set by the event stream

    def subnets(self, *, own: bool = False) -> Mapping[str, str]:
        """Name -> IPv4 subnet ("" when it has none) of every network, or only of this server's own."""
        return {
            str(network["Name"]): _subnet(network)
            for network in self._list()
            if not own or (network.get("Labels") or {}).get(LABEL_SERVER) == self._api.server
        }

    def invalidate(self) -> None:
        """List them again at the next question."""
        with self._lock:
            self._listed = None

    def create(self, name: str, subnet: str, labels: Mapping[str, str]) -> None:
        """Make the bridge with gateway .1, unless it is there. Raises Stalled (`ForeignNetwork`) or Transient (subnet taken)."""
        block = ipaddress.IPv4Network(subnet)
        # What joins without a fixed address (a foreign container) gets one of the last quarter, clear of the slots'.
        pool = IPAMPool(subnet=subnet, gateway=str(block[1]), iprange=str(list(block.subnets(prefixlen_diff=2))[-1]))
        self.invalidate()
        with self._api.call("network-create", f"create network {name}") as client:
            try:
                client.create_network(
                    name,
                    driver="bridge",
                    ipam=IPAMConfig(pool_configs=[pool]),
                    check_duplicate=True,
                    labels={**labels, LABEL_SERVER: self._api.server},
                )
            except docker.errors.APIError as error:
                words = explain(error)
                if "overlaps" in words:
                    raise Transient(
                        f"subnet {subnet} of network {name} overlaps with another: a free one is picked next"
                    ) from error
                if error.status_code != 409 and "already exists" not in words:
                    raise
                self._must_be_ours(name, subnet)

    def connect(self, container: str, network: str, address: str, aliases: tuple[str, ...] = ()) -> None:
        """Join a container to a network at an address, unless it is there already. Raises Transient."""
        with self._api.call("connect", f"connect {container} to {network} at {address}") as client:
            try:
                client.connect_container_to_network(container, network, ipv4_address=address or None, aliases=list(aliases) or None)
                return
            except docker.errors.APIError as error:
                if "already exists in network" not in explain(error):
                    raise
        with self._api.call("inspect", f"inspect container {container}") as client:
            found = client.inspect_container(container)
        actual = endpoint_address(found["NetworkSettings"]["Networks"].get(network) or {})
        if address and actual != address:
            self.disconnect(container, network)
            self.connect(container, network, address, aliases)

    def disconnect(self, container: str, network: str) -> None:
        """Take a container from a network; nothing happens when it is not on it."""
        with self._api.call("connect", f"disconnect {container} from {network}") as client:
            try:
                client.disconnect_container_from_network(container, network, force=True)
            except docker.errors.APIError as error:
                if error.status_code != 404 and "is not connected" not in explain(error):
                    raise

    def remove(self, name: str) -> None:
        """Remove an empty network of ours; nothing happens when it is gone. Raises Stalled (foreign) or Transient (in use)."""
        self.invalidate()
        labels = self._labels(name)
        if labels is None:
            return
        if labels.get(LABEL_SERVER) != self._api.server:
            raise Stalled(f"network {name} is not this server's: it is never removed", reason="ForeignNetwork")
        with self._api.call("network-remove", f"remove network {name}") as client:
            try:
                client.remove_network(name)
            except docker.errors.NotFound:
                return
        self.invalidate()

    def _list(self) -> list[Mapping[str, Any]]:
        with self._lock:
            if self._listed is not None and self.watched:
                return self._listed
        with self._api.call("networks", "list networks") as client:
            listed: list[Mapping[str, Any]] = client.networks()
        with self._lock:
            self._listed = listed
        return listed

    def _labels(self, name: str) -> Mapping[str, str] | None:
        for network in self._list():
            if network["Name"] == name:
                return network.get("Labels") or {}
        return None

    def _must_be_ours(self, name: str, subnet: str) -> None:
        self.invalidate()
        labels, found = self._labels(name), self.subnets().get(name)
        if labels is not None and labels.get(LABEL_SERVER) == self._api.server and found == subnet:
            return
        raise Stalled(
            f"network {name} exists with subnet {found or 'none'} and is not the one wanted ({subnet}, labelled as this server's): "
            "remove it when nothing needs it",
            reason="ForeignNetwork",
        )


def _subnet(network: Mapping[str, Any]) -> str:
    pools = [str(pool.get("Subnet", "")) for pool in (network.get("IPAM") or {}).get("Config") or ()]
    return next((pool for pool in pools if "." in pool), "")
