"""The networks of a simulated dockerd: who is on which, at what address, and who takes a connection there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from tests.fakes.docker_things import Box, EngineError, Network


class Wires:
    """Containers by id, and the bridges between them. `writes`: how often anything was changed."""

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.networks: dict[str, Network] = {"bridge": Network("bridge", "172.17.0.0/16", None)}
        self.writes = 0
        self._names: dict[str, Box] = {}

    def find(self, identity: str) -> Box | None:
        """A container by its name or id."""
        return self.boxes.get(identity) or self._names.get(identity)

    def at(self, address: str, network: str | None = None) -> Box | None:
        """The container that has an address now. A frozen one keeps it."""
        for box in self.boxes.values():
            if box.up and any(has == address and network in (None, name) for name, has in box.addresses.items()):
                return box
        return None

    def sharing(self, owner: Box) -> Iterator[Box]:
        """The containers whose process lives in the network namespace that another one has now."""
        for box in self.boxes.values():
            if box.joined == owner.id and box.up and owner.up and box.inside == owner.namespace:
                yield box

    def accepts(self, address: str, port: int) -> Box | None:
        """Who takes a connection to a container's address, or to a published port of the server: the one that listens there."""
        owner = self.at(address)
        if owner is None:
            for box in self.boxes.values():
                for published in box.plan.publish if box.up else ():
                    if published.host_port == port and published.host_address in (address, "0.0.0.0"):
                        owner, port = box, published.container_port
        if owner is None:
            return None
        return next((box for box in (owner, *self.sharing(owner)) if box.status == "running" and port in box.program.listens), None)

    def resolve(self, asker: str, name: str) -> tuple[str, ...]:
        """Docker's DNS for a container: names and aliases of those that are up, on the networks that both are on."""
        box = self.find(asker)
        if box is None:
            return ()
        return tuple(
            other.addresses[network]
            for network in box.addresses
            for other in self.boxes.values()
            if other.up
            and network in other.addresses
            and network != "bridge"
            and name in (other.name, *other.aliases.get(network, ()))
        )

    def create_network(self, name: str, subnet: str, server: str | None) -> None:
        """Make a bridge."""
        if name in self.networks:
            raise EngineError(409, f"network with name {name} already exists")
        block = ipaddress.IPv4Network(subnet)
        if any(block.overlaps(ipaddress.IPv4Network(other.subnet)) for other in self.networks.values() if other.subnet):
            raise EngineError(403, "Pool overlaps with other one on this address space")
        self.writes += 1
        self.networks[name] = Network(name, subnet, server)

    def remove_network(self, name: str) -> None:
        """Remove a bridge on which nothing runs."""
        users = [box.name for box in self.boxes.values() if box.up and name in box.addresses]
        if users:
            raise EngineError(403, f"error while removing network: network {name} has active endpoints")
        self.writes += 1
        del self.networks[name]

    def connect(self, box: Box, network: str, address: str | None, aliases: tuple[str, ...] = ()) -> None:
        """Join a container to a network. One that is not up is promised any; whether there is one shows when it starts."""
        if box.up and network not in self.networks:
            raise EngineError(404, f"network {network} not found")
        if box.joined is not None or box.plan.host_network:
            raise EngineError(403, "container sharing network namespace with another container or host cannot be connected")
        if network in box.networks:
            raise EngineError(403, f"endpoint with name {box.name} already exists in network {network}")
        self.writes += 1
        box.version += 1
        box.endpoints[network] = address
        box.aliases[network] = aliases
        if box.up:
            if address is not None and self.at(address, network) is not None:
                raise EngineError(403, "Address already in use")
            box.addresses[network] = address or self._any_address(network)

    def disconnect(self, box: Box, network: str) -> None:
        """Take a container from a network; nothing happens when it is not on it."""
        if network in box.networks:
            self.writes += 1
            box.version += 1
            del box.endpoints[network]
            box.aliases.pop(network, None)
            box.addresses.pop(network, None)

    def _join(self, box: Box) -> int:
        if box.joined is None:
            return 0
        owner = self.boxes.get(box.joined)
        if owner is None:
            raise EngineError(404, f"No such container: {box.joined}")
        if not owner.up:
            raise EngineError(409, f"cannot join network of a non running container: {box.joined}")
        return owner.namespace

    def _take_addresses(self, box: Box) -> dict[str, str]:
        found = {}
        for network, address in box.endpoints.items():
            if network == "host":
                continue
            if network not in self.networks:
                raise EngineError(404, f"network {network} not found")
            if address is not None and self.at(address, network) is not None:
                raise EngineError(403, "Address already in use")
            found[network] = address or self._any_address(network)
        return found

    def _any_address(self, network: str) -> str:
        block = ipaddress.IPv4Network(self.networks[network].subnet)
        quarter = list(block.subnets(prefixlen_diff=2))[-1]
        return next(str(host) for host in quarter.hosts() if self.at(str(host), network) is None)
