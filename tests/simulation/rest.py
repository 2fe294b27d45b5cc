"""What holds when the faults are over and nothing moves any more: I4 and I6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.model.cluster import ClusterState, ServiceState
from reconciler.model.desired import Desired, DesiredService
from reconciler.model.identity import ServiceKey
from tests.simulation.daemon import Daemon
from tests.simulation.versions import healthy_after, index_of

if TYPE_CHECKING:
    from tests.simulation.world import World


def check(world: World) -> None:
    """Every service, every server."""
    cluster = world.remote.cluster
    if cluster is None:
        world.fail("I6", "there is no decision")
        return
    if index_of(cluster.config) != world.commits.head:
        world.fail("I6", "the decision does not follow the last commit")
    desired = world.commits.desired(world.commits.head)
    if set(cluster.members) != set(desired.servers):
        world.fail("I6", f"members are {cluster.members}, the inventory has {sorted(desired.servers)}")
    for key, want in desired.services.items():
        state = cluster.services.get(str(key))
        if state is None:
            world.fail("I6", f"{key} is not in the decision")
            return
        _service(world, key, want, state)
    kept = {name for name, state in cluster.services.items() if state.held}
    for name in cluster.services.keys() - kept:
        if ServiceKey.parse(name) not in desired.services:
            world.fail("I6", f"{name} is still in the decision")
    for name, state in cluster.services.items():
        _same_bytes(world, name, state)
    for daemon in world.daemons.values():
        if daemon.machine == daemon.name and daemon.name in cluster.members:
            _server(world, daemon, cluster)
            _routes(world, daemon, cluster, desired)


def stays(state: ServiceState) -> bool:
    """Whether the status names what keeps the service from being what is desired."""
    return bool(state.held) or (state.rollout is not None and (state.rollout.reason or "").startswith("Stalled"))


def _service(world: World, key: ServiceKey, want: DesiredService, state: ServiceState) -> None:
    live = [b for b in state.backends if b.role == "live"]
    if stays(state):
        return
    if state.live is None or state.live.spec != want.spec.digest:
        world.fail("I6", f"{key} should be {want.spec.digest}: {state}")
    if {b.spec for b in live} != {want.spec.digest}:
        world.fail("I4", f"{key}: {live}")
    places = {(b.server, b.replica) for b in live}
    expected = {(s, r + 1) for s in want.servers for r in range(want.replicas)}
    if places != expected and not (want.stateful and not want.pinned):
        world.fail("I6", f"{key} is live on {sorted(places)}, placed on {sorted(expected)}")


def _same_bytes(world: World, name: str, state: ServiceState) -> None:
    """A tag is resolved once for each rollout: whatever runs the live version runs one image."""
    found = set()
    for backend in state.backends:
        if (
            backend.role == "live"
            and state.live is not None
            and backend.spec == state.live.spec
            and backend.server in world.daemons
        ):
            box = world.daemons[backend.server].boxes.find(ServiceKey.parse(name).instance(backend.slot, backend.replica))
            if box is not None:
                found.add((backend.server, box.plan.image))
    if len({image for _, image in found}) > 1:
        world.fail("I4", f"{name} runs different images: {sorted(found)}; recorded: {state.live}")


def _server(world: World, daemon: Daemon, cluster: ClusterState) -> None:
    boxes = daemon.boxes
    listed = {
        ServiceKey.parse(name).instance(b.slot, b.replica)
        for name, state in cluster.services.items()
        for b in state.backends
        if b.server == daemon.name
    }
    there = {b.instance for b in boxes.boxes.values() if b.instance is not None}
    if listed != there:
        world.fail("I6", f"{daemon.name} has {sorted(map(str, there))}, the decision lists {sorted(map(str, listed))}")
    for instance in sorted(listed):
        box = boxes.find(instance)
        able = box is not None and healthy_after(box.plan.labels.spec, daemon.name) is not None
        if box is not None and able and not boxes.healthy(box, world.now) and not stays(cluster.services[str(instance.service)]):
            world.fail("I6", f"{instance} on {daemon.name} is {box.status}")
    for address in daemon.pulses.dead():
        reached = world.reached(daemon, address)
        if reached is not None and reached[0].boxes.healthy(reached[1], world.now):
            world.fail("I6", f"{daemon.name} passes over {address}, which answers")
    if not cluster.services and set(boxes.networks) != {"bridge"}:
        world.fail("I6", f"{daemon.name} has networks {sorted(boxes.networks)}")


def _routes(world: World, daemon: Daemon, cluster: ClusterState, desired: Desired) -> None:
    """Every service is reached where it should be: public ones at the edge, all of them from the host and from sidecars."""
    boxes = {box.plan.name: box for box in daemon.boxes.nginxes()}
    for name, state in cluster.services.items():
        key = ServiceKey.parse(name)
        if state.live is None or stays(state):
            continue
        upstream = f"{key.project}_{key.env}_{key.service}"
        want = desired.services[key]
        edge, host = boxes.get("nginx"), boxes.get("nginx_host")
        near = want.spec.publish or daemon.name in want.servers
        if (
            want.public
            and near
            and (edge is None or edge.loaded is None or edge.loaded.meaning.hosts.get(f"{key.service}.example") != upstream)
        ):
            world.fail("I6", f"{name} is not public on {daemon.name}")
        if near and (host is None or host.loaded is None or host.loaded.meaning.ports.get(state.internal_port) != upstream):
            world.fail("I6", f"{name} is not reached from {daemon.name} itself")
        for box in daemon.boxes.nginxes():
            instance = box.instance
            if instance is None or box.loaded is None or instance.service == key or not near:
                continue
            same = (instance.service.project, instance.service.env) == (key.project, key.env)
            if same and box.loaded.meaning.ports.get(state.internal_port) != upstream:
                world.fail("I6", f"{name} is not reached from {box.plan.name} on {daemon.name}")
