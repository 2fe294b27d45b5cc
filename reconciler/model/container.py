"""A container as it is to be created, and the labels by which it is known again."""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Model
from reconciler.model.desired import Mount, Resources
from reconciler.model.identity import InstanceKey, ServiceKey, Slot

ContainerRole = Literal["application", "sidecar", "edge", "host"]

PREFIX = "reconciler."
LABEL_SERVER = PREFIX + "server"
LABEL_ROLE = PREFIX + "role"
LABEL_SERVICE = PREFIX + "service"
LABEL_REPLICA = PREFIX + "replica"
LABEL_SLOT = PREFIX + "slot"
LABEL_SPEC = PREFIX + "spec"
LABEL_REVISION = PREFIX + "revision"
LABEL_ROLLOUT = PREFIX + "rollout"
LABEL_LOCAL = PREFIX + "local"  # keyed hash of what is the server's own (contents of secrets)
LABEL_ADDRESSES = PREFIX + "addresses"  # "primary,secondary": the pair's addresses on the project network
LABEL_PORTS = PREFIX + "ports"  # "primary,secondary": the host ports allocated to the service's replica
LABEL_SHAPE = PREFIX + "shape"  # digest of the ContainerPlan, to notice what was changed by hand


class Labels(Model):
    """The labels of one of our containers, parsed. An edge or host listener has no service."""

    server: str
    role: ContainerRole
    service: ServiceKey | None = None
    replica: int = 1
    slot: Slot | None = None
    spec: str = ""
    revision: str = ""
    rollout: str = ""
    local: str = ""
    addresses: tuple[str, str] | None = None
    ports: tuple[int, int] | None = None
    shape: str = ""

    @property
    def instance(self) -> InstanceKey | None:
        """The instance this container belongs to."""
        if self.service is None or self.slot is None:
            return None
        return InstanceKey(self.service, self.replica, self.slot)

    def to_docker(self) -> dict[str, str]:
        """As Docker labels."""
        pairs = {
            LABEL_SERVER: self.server,
            LABEL_ROLE: self.role,
            LABEL_SERVICE: str(self.service) if self.service else "",
            LABEL_REPLICA: str(self.replica) if self.service else "",
            LABEL_SLOT: self.slot or "",
            LABEL_SPEC: self.spec,
            LABEL_REVISION: self.revision,
            LABEL_ROLLOUT: self.rollout,
            LABEL_LOCAL: self.local,
            LABEL_ADDRESSES: ",".join(self.addresses) if self.addresses else "",
            LABEL_PORTS: ",".join(map(str, self.ports)) if self.ports else "",
            LABEL_SHAPE: self.shape,
        }
        return {name: value for name, value in pairs.items() if value}

    @classmethod
    def from_docker(cls, labels: dict[str, str]) -> Labels | None:
        """Parse; None when the container is not ours. Raises ValueError when ours but unreadable."""
        if LABEL_SERVER not in labels or LABEL_ROLE not in labels:
            return None
        service = labels.get(LABEL_SERVICE)
        addresses = tuple(labels[LABEL_ADDRESSES].split(",")) if labels.get(LABEL_ADDRESSES) else None
        ports = tuple(int(port) for port in labels[LABEL_PORTS].split(",")) if labels.get(LABEL_PORTS) else None
        return cls.model_validate(
            {
                "server": labels[LABEL_SERVER],
                "role": labels[LABEL_ROLE],
                "service": ServiceKey.parse(service) if service else None,
                "replica": int(labels.get(LABEL_REPLICA) or 1),
                "slot": labels.get(LABEL_SLOT) or None,
                "spec": labels.get(LABEL_SPEC, ""),
                "revision": labels.get(LABEL_REVISION, ""),
                "rollout": labels.get(LABEL_ROLLOUT, ""),
                "local": labels.get(LABEL_LOCAL, ""),
                "addresses": addresses,
                "ports": ports,
                "shape": labels.get(LABEL_SHAPE, ""),
            }
        )


class Publish(Model):
    """A published port. `host_address` is never 0.0.0.0 for a service; the edge publishes on all addresses."""

    host_address: str
    host_port: int
    container_port: int


class ContainerPlan(Model):
    """Everything given to Docker's create call. Exactly one of `network`, `namespace_of` and `host_network` is used."""

    name: str
    image: str  # an immutable reference where there is one
    labels: Labels
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    working_dir: str | None = None
    network: str | None = None
    address: str | None = None
    aliases: tuple[str, ...] = ()
    namespace_of: str | None = None  # container name whose network namespace is joined
    host_network: bool = False
    publish: tuple[Publish, ...] = ()
    mounts: tuple[Mount, ...] = ()
    resources: Resources = Resources()
    restart: Literal["no", "on-failure", "unless-stopped", "always"] = "no"
    stop_signal: str | None = None
    stop_grace: float = 10.0
    init: bool = False
    read_only: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    image_volumes: Literal["refuse", "tmpfs"] = "refuse"  # VOLUMEs of the image that no mount covers; tmpfs for `stateless`
