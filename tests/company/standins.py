"""One server's outside without a machine: Docker, nginx, prober, secrets and journal as the engine's ports, in memory."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.effects.probes import Target
from reconciler.effects.pulses import Backend
from reconciler.model.container import ContainerPlan
from reconciler.model.effect import SwitchTarget
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Container, Gate, Image, NginxState
from reconciler.model.pulse import Pulse
from reconciler.model.switched import Switched


class MemoryDocker:
    """A Docker Engine that starts whatever it is told at once. `writes` counts what changes anything, by call."""

    def __init__(self) -> None:
        self.writes = 0
        self._count = itertools.count(1)
        self._containers: dict[str, Container] = {}
        self._images: dict[str, Image] = {}
        self._networks = {"bridge": "172.17.0.0/16"}

    def containers(self) -> tuple[tuple[Container, ...], frozenset[str]]:
        return tuple(sorted(list(self._containers.values()), key=lambda c: c.name)), frozenset()  # noqa: C414 - a copy: jobs change it

    def networks(self) -> Mapping[str, str]:
        return dict(self._networks)

    def own_networks(self) -> Mapping[str, str]:
        return {name: subnet for name, subnet in self._networks.items() if name != "bridge"}

    def create(self, plan: ContainerPlan) -> str:
        assert plan.name not in {c.name for c in list(self._containers.values())}, f"{plan.name} is there already"
        self.writes += 1
        number = next(self._count)
        owner = self._find(plan.namespace_of) if plan.namespace_of is not None else None
        identity = f"{number:012x}"
        self._containers[identity] = Container(
            id=identity,
            name=plan.name,
            labels=plan.labels,
            status="created",
            created=f"{number:09d}",
            image_id=self._images[plan.image].id if plan.image in self._images else plan.image,
            address=plan.address,
            namespace_of=owner.id if owner is not None else None,
            networks=(plan.network,) if plan.network else (),
        )
        return identity

    def start(self, identity: str) -> None:
        found = self._find(identity)
        self._change(found, status="running", pid=1_000_000 + int(found.id, 16), exit_code=None)

    def unpause(self, identity: str) -> None:
        self._change(self._find(identity), status="running")

    def stop(self, identity: str, signal: str | None = None, grace: float = 10.0) -> int | None:
        self._change(self._find(identity), status="exited", pid=0, exit_code=0)
        return 0

    def kill(self, identity: str, signal: str | None) -> None:
        self.writes += 1

    def remove(self, identity: str) -> None:
        self.writes += 1
        del self._containers[self._find(identity).id]

    def restore(self, identity: str, plan: ContainerPlan) -> None:
        raise AssertionError("nobody changes anything by hand here")

    def create_network(self, name: str, subnet: str, labels: Mapping[str, str] | None = None) -> None:
        self.writes += 1
        self._networks[name] = subnet

    def connect(self, container: str, network: str, address: str) -> None:
        found = self._find(container)
        self._change(found, networks=(*found.networks, network))

    def disconnect(self, container: str, network: str) -> None:
        found = self._find(container)
        self._change(found, networks=tuple(name for name in found.networks if name != network))

    def remove_network(self, name: str) -> None:
        self.writes += 1
        del self._networks[name]

    def image(self, reference: str) -> Image | None:
        return self._images.get(reference)

    def pull(self, reference: str) -> Image:
        """A tag names the same bytes on every server."""
        digest = hashlib.sha256(reference.encode()).hexdigest()
        named = reference if "@" in reference else f"{reference.rpartition(':')[0]}@sha256:{digest}"
        image = Image(id=f"sha256:{named[-64:]}", reference=named)
        self._images |= {reference: image, named: image}
        return image

    def build(self, tag: str, context: Mapping[str, tuple[int, bytes]], dockerfile: str, seconds: float = 900.0) -> tuple[str, ...]:
        raise AssertionError("nothing is built here")

    def remove_unused_images(self, keep: frozenset[str]) -> tuple[str, ...]:
        return ()

    def logs(self, identity: str, tail: int = 20) -> tuple[str, ...]:
        return ()

    def ports_in_use(self, address: str, besides: int = 0) -> frozenset[int]:
        return frozenset()

    def invalidate(self, identity: str | None = None) -> None:
        """Nothing is remembered."""

    def _find(self, name: str) -> Container:
        return self._containers.get(name) or next(c for c in list(self._containers.values()) if c.name == name)

    def _change(self, container: Container, **changes: object) -> None:
        self.writes += 1
        self._containers[container.id] = container.model_copy(update=changes)


@dataclass
class MemoryNginx:
    """nginxes that load what they are given and answer for it. `connected`: what draining instances are said to carry."""

    loaded: dict[str, str] = field(default_factory=dict)
    reloads: int = 0
    connected: int = 0

    def write(self, name: str, text: str) -> None:
        marker = 'return 200 "'
        self.loaded[name] = text[text.index(marker) + len(marker) :].split('"', 1)[0]

    def forget(self, name: str) -> None:
        self.loaded.pop(name, None)

    def state(self, name: str, pid: int, port: int) -> NginxState:
        return NginxState(name=name, loaded=self.loaded.get(name))

    def read(self, name: str) -> str | None:
        return None

    def complaint(self, name: str) -> str | None:
        return None

    def version(self, name: str) -> tuple[int, int, int]:
        return (1, 31, 0)

    def switch(self, targets: Sequence[tuple[SwitchTarget, int]]) -> Sequence[Switched]:
        self.reloads += 1
        found = []
        for target, _ in targets:
            self.write(target.name, target.text)
            state = NginxState(name=target.name, loaded=target.fingerprint)
            found.append(Switched(name=target.name, state=state, loaded=True, verified_ms=100.0))
        return found

    def connections(self, pid: int, port: int) -> int:
        return self.connected


class TimedProber:
    """Health gates that pass `after` seconds after the container was first watched. `healthy` False: they fail then."""

    def __init__(self, monotonic: Callable[[], float], after: float) -> None:
        self._monotonic = monotonic
        self._since: dict[str, float] = {}
        self.after = after
        self.healthy = True

    def watch(self, targets: Mapping[str, Target]) -> None:
        now = self._monotonic()
        self._since = {identity: self._since.get(identity, now) for identity in targets}

    def gates(self) -> Mapping[str, Gate]:
        now = self._monotonic()
        ended = Gate(state="passed", after=self.after, successes=2) if self.healthy else Gate(state="failed", error="no answer")
        return {identity: ended if now - since >= self.after else Gate(state="waiting") for identity, since in self._since.items()}


class NoPulses:
    """Nobody looks at the backends of others."""

    def watch(self, backends: Mapping[str, Backend]) -> None:
        """Nothing is looked at."""

    def pulses(self) -> Mapping[str, Pulse]:
        return {}


class NoSecrets:
    """No service has any."""

    def digests(self, wanted: Mapping[ServiceKey, tuple[str, ...]]) -> Mapping[str, str]:
        return {}

    def missing(self, wanted: Mapping[ServiceKey, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        return {}

    def redact(self, service: ServiceKey, names: tuple[str, ...], lines: tuple[str, ...]) -> tuple[str, ...]:
        return lines


class MemoryJournal:
    """Files that last as long as the test."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self._files.get(name)

    def write(self, name: str, data: bytes) -> None:
        self._files[name] = data

    def remove(self, name: str) -> None:
        """By hand."""
        del self._files[name]
