"""The Docker Engine of this server: everything the engine may ask of it, on one object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from reconciler.effects.docker_api import CALL_SECONDS, DockerApi
from reconciler.effects.docker_events import Event, Events
from reconciler.effects.docker_exec import Exec
from reconciler.effects.docker_health import DockerHealth, docker_health
from reconciler.effects.docker_images import Images
from reconciler.effects.docker_lifecycle import Lifecycle
from reconciler.effects.docker_list import Listing
from reconciler.effects.docker_networks import Networks
from reconciler.effects.docker_ports import ports_in_use
from reconciler.effects.docker_restore import Restore
from reconciler.effects.docker_shape import expected_shape
from reconciler.errors import Transient
from reconciler.model.container import ContainerPlan
from reconciler.model.observed import Container, Image


class Docker:
    """One daemon as one server sees it: containers labelled `reconciler.server=<server>` are ours, no others are ever changed.

    Safe to use from several threads. Each method raises Transient when the daemon does not answer in time.
    """

    def __init__(self, base_url: str, server: str, call_seconds: int = CALL_SECONDS) -> None:
        """`base_url` as in DOCKER_HOST, such as `unix:///var/run/docker.sock`. `call_seconds`: how long one answer may take.

        Nothing is called yet.
        """
        self._api = DockerApi(base_url, server, call_seconds)
        self._listing = Listing(self._api)
        self._lifecycle = Lifecycle(self._api, self._listing)
        self._networks = Networks(self._api)
        self._images = Images(self._api)
        self._exec = Exec(self._api)
        self._restore = Restore(self._api, self._networks)
        self._events = Events(self._api, self._listing.is_ours, self._noted)

    @property
    def calls(self) -> Counter[str]:
        """How many API calls were made so far, by verb."""
        return self._api.calls

    @property
    def writes(self) -> int:
        """How many of them changed something."""
        return self._api.writes

    def ping(self) -> None:
        """Raises Transient when the daemon does not answer."""
        self._api.ping()

    # --- containers

    def containers(self) -> tuple[tuple[Container, ...], frozenset[str]]:
        """Our containers and the names that foreign ones use: one list call, an inspect for each that changed."""
        return self._listing.containers()

    def invalidate(self, identity: str | None = None) -> None:
        """Inspect this container, or all of them, again in the next pass."""
        self._listing.invalidate(identity)

    def create(self, plan: ContainerPlan) -> str:
        """Create a container and return its id. See `Lifecycle.create` for what it adopts and refuses."""
        return self._lifecycle.create(plan, self._images.image(plan.image))

    def start(self, identity: str) -> None:
        """Start it; nothing happens when it runs. Raises Stalled when its image or command is wrong."""
        self._lifecycle.start(identity)

    def unpause(self, identity: str) -> None:
        """Let a frozen container go on."""
        self._lifecycle.unpause(identity)

    def stop(self, identity: str, signal: str | None = None, grace: float = 10.0) -> int | None:
        """Signal, wait `grace` seconds, SIGKILL. Returns the exit code, None when it is gone."""
        return self._lifecycle.stop(identity, signal, grace)

    def kill(self, identity: str, signal: str | None) -> None:
        """Send a signal that is meant to end it; None: its own stop signal, which also ends its restart policy."""
        self._lifecycle.kill(identity, signal)

    def remove(self, identity: str) -> None:
        """Remove a stopped container of ours, never its volumes; refuses foreign ones (Stalled)."""
        self._lifecycle.remove(identity)

    def restore(self, identity: str, plan: ContainerPlan) -> None:
        """Undo what was changed by hand, without a restart. Raises Transient when it is gone."""
        found = self._lifecycle.inspect(identity)
        if found is None:
            raise Transient(f"container {plan.name} is gone: it is made again in the next pass")
        self._restore.restore(identity, expected_shape(plan, self._lifecycle.supported()), found)
        self._listing.invalidate(identity)

    def pid(self, name: str) -> int:
        """The process id, on the host, of a container by id or name, asked anew; 0 when it does not run."""
        found = self._lifecycle.inspect(name)
        return int(found["State"].get("Pid") or 0) if found is not None else 0

    def exec(self, name: str, argv: tuple[str, ...], timeout: float) -> tuple[int, str]:
        """Run a command in a container. Returns its code (124: killed after `timeout` seconds) and the end of its output."""
        return self._exec.exec(name, argv, timeout)

    def logs(self, identity: str, tail: int = 20) -> tuple[str, ...]:
        """The last lines that a container wrote, harmless to print; empty when it is gone."""
        return self._exec.logs(identity, tail)

    def health(self, identity: str) -> DockerHealth:
        """Docker's own health state of a container, with whether it can still be believed (FAULTS 8)."""
        return docker_health(self._lifecycle.inspect(identity))

    # --- networks

    def networks(self) -> Mapping[str, str]:
        """Every network of the daemon: name -> IPv4 subnet, "" when it has none."""
        return self._networks.subnets()

    def own_networks(self) -> Mapping[str, str]:
        """This server's project networks: name -> subnet."""
        return self._networks.subnets(own=True)

    def create_network(self, name: str, subnet: str, labels: Mapping[str, str] | None = None) -> None:
        """Make a project network, labelled as ours, with gateway .1; nothing happens when it is there."""
        self._networks.create(name, subnet, labels or {})

    def connect(self, container: str, network: str, address: str) -> None:
        """Join a container to a network at a fixed address; nothing happens when it is there."""
        self._networks.connect(container, network, address)
        self._listing.invalidate()

    def disconnect(self, container: str, network: str) -> None:
        """Take a container from a network; nothing happens when it is not on it."""
        self._networks.disconnect(container, network)
        self._listing.invalidate()

    def remove_network(self, name: str) -> None:
        """Remove an empty network of ours; refuses foreign ones (Stalled)."""
        self._networks.remove(name)

    # --- images

    def image(self, reference: str) -> Image | None:
        """The image, None when it is not here."""
        return self._images.image(reference)

    def pull(self, reference: str) -> Image:
        """Fetch an image. Raises Transient with words that tell a wrong name from an unreachable registry."""
        return self._images.pull(reference)

    def build(self, tag: str, context: Mapping[str, tuple[int, bytes]], dockerfile: str, seconds: float = 900.0) -> tuple[str, ...]:
        """Build an image from path -> (mode, content). Returns the log's end; raises Stalled (`BuildFailed`) with it."""
        return self._images.build(tag, context, dockerfile, seconds)

    def remove_unused_images(self, keep: frozenset[str]) -> tuple[str, ...]:
        """Remove images that this program built, that no container uses and whose tag and id are not in `keep`."""
        return self._images.remove_unused(keep)

    # --- events and ports

    def events(self) -> Iterator[Event]:
        """Events of our containers and of networks, until `close`. Each marks what it names for a new inspect by itself."""
        return self._events.events()

    def close(self) -> None:
        """End `events`."""
        self._events.close()

    def ports_in_use(self, address: str, besides: int = 0) -> frozenset[int]:
        """TCP ports of the server that cannot be bound on `address`, whoever listens there."""
        return ports_in_use(address, besides)

    def _noted(self, event: Event | None) -> None:
        if event is None:
            self._networks.watched = False
            return
        if event.kind == "connected":
            self._listing.invalidate()
            self._networks.watched = True
        elif event.id:
            self._listing.invalidate(event.id)
        if event.kind != "container":
            self._networks.invalidate()
