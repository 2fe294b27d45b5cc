"""What a person changes in a container by hand is named in words and undone (FAULTS 18)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import docker
import pytest

from reconciler.model.container import ContainerPlan, Labels
from reconciler.model.desired import Resources
from tests.integration import docker_rig
from tests.integration.conftest import Scope
from tests.integration.docker_rig import Rig
from tests.integration.images import Images

pytestmark = pytest.mark.docker
MEBIBYTE = 1 << 20


@pytest.fixture
def rig(scope: Scope, docker_client: docker.DockerClient, images: Images) -> Iterator[Rig]:
    made = docker_rig.rig(scope, docker_client, images)
    yield made
    made.docker.close()


def limited(rig: Rig) -> ContainerPlan:
    return rig.plan(resources=Resources(memory=64 * MEBIBYTE, cpus=0.5, pids=60), aliases=("db",), restart="on-failure")


def reconnect(rig: Rig, address: str, *aliases: str) -> None:
    network = rig.client.networks.get(rig.network)
    network.disconnect(rig.instance.name)
    network.connect(rig.instance.name, ipv4_address=address, aliases=list(aliases))


def join_foreign(rig: Rig) -> None:
    rig.scope.network("other").connect(rig.instance.name)


def update(rig: Rig, **given: object) -> None:
    client = rig.client.api
    answer = client.post(f"{client.base_url}/v{client.api_version}/containers/{rig.instance.name}/update", json=given)
    assert answer.status_code == 200, answer.text


CHANGES: dict[str, tuple[Callable[[Rig], None], tuple[str, ...]]] = {
    "memory": (lambda rig: update(rig, Memory=65 * MEBIBYTE, MemorySwap=130 * MEBIBYTE), ("memory limit 67108864 -> 68157440",)),
    "swap": (lambda rig: update(rig, MemorySwap=300 * MEBIBYTE), ("memory and swap limit 134217728 -> 314572800",)),
    "cpus": (lambda rig: update(rig, NanoCpus=750_000_000), ("CPU limit 0.5 -> 0.75",)),
    "shares": (lambda rig: update(rig, CpuShares=512), ("CPU shares not set -> 512",)),
    "cpuset": (lambda rig: update(rig, CpusetCpus="0"), ("CPU set not set -> 0",)),
    "reservation": (lambda rig: update(rig, MemoryReservation=32 * MEBIBYTE), ("memory reservation not set -> 33554432",)),
    "pids": (lambda rig: update(rig, PidsLimit=99), ("process limit 60 -> 99",)),
    "restart": (lambda rig: update(rig, RestartPolicy={"Name": "always"}), ("restart policy on-failure -> always",)),
    "disconnect": (
        lambda rig: rig.client.networks.get(rig.network).disconnect(rig.instance.name),
        ("disconnected from {network}",),
    ),
    "address": (
        lambda rig: reconnect(rig, rig.address(77), "db"),
        ("address on {network} {a10} -> {a77}",),
    ),
    "aliases": (lambda rig: reconnect(rig, rig.address(10)), ("aliases on {network} lost: db",)),
    "foreign network": (join_foreign, ("connected to {scope}_other",)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_by_hand_is_named_and_undone_without_a_restart(rig: Rig, change: str) -> None:
    if change == "cpuset" and os.cpu_count() == 1:
        pytest.fail("this test needs more than one CPU")
    by_hand, words = CHANGES[change]
    made = rig.up(limited(rig))
    assert made.drift == ()
    by_hand(rig)
    rig.docker.invalidate(made.id)
    names = {"network": rig.network, "scope": rig.scope.name, "a10": rig.address(10), "a77": rig.address(77)}
    assert rig.seen().drift == tuple(word.format(**names) for word in words)
    rig.docker.restore(made.id, limited(rig))
    after = rig.seen()
    assert (after.drift, after.id, after.pid, after.restarts) == ((), made.id, made.pid, 0)
    assert after.address == rig.address(10)


def test_limits_on_what_was_not_limited_are_undone_too(rig: Rig) -> None:
    made = rig.up()
    update(rig, Memory=64 * MEBIBYTE, MemorySwap=128 * MEBIBYTE, NanoCpus=500_000_000, PidsLimit=50)
    rig.docker.invalidate(made.id)
    assert rig.seen().drift == ("memory limit 0 -> 67108864", "CPU limit 0 -> 0.5", "process limit 0 -> 50")
    rig.docker.restore(made.id, rig.plan())
    assert (rig.seen().drift, rig.seen().pid) == ((), made.pid)


def test_a_rename_is_seen_in_the_list_and_undone(rig: Rig) -> None:
    made = rig.up()
    rig.by_hand().rename(f"{rig.scope.name}_renamed")
    renamed = rig.seen(f"{rig.scope.name}_renamed")
    assert renamed.drift == (f"renamed from {rig.instance.name} to {rig.scope.name}_renamed",)
    rig.docker.restore(made.id, rig.plan())
    assert rig.seen().id == made.id and rig.seen().drift == ()


def test_a_disconnect_is_seen_in_the_list_without_an_event(rig: Rig) -> None:
    """FAULTS 17."""
    rig.up()
    rig.client.networks.get(rig.network).disconnect(rig.instance.name)
    assert rig.seen().drift == (f"disconnected from {rig.network}",)


def test_a_change_is_seen_while_it_is_stopped(rig: Rig) -> None:
    made = rig.up()
    rig.docker.stop(made.id)
    assert rig.seen().drift == ()
    rig.client.networks.get(rig.network).disconnect(rig.instance.name)
    rig.docker.invalidate()
    assert rig.seen().drift == (f"disconnected from {rig.network}",)


def test_a_sidecar_restarted_by_hand_leaves_its_application_in_the_old_namespace(rig: Rig) -> None:
    """FAULTS 18: `docker restart`: both run, and nothing reaches the application any more."""
    sidecar = rig.plan(name=rig.instance.sidecar, labels=rig.labels("sidecar"))
    rig.up(sidecar)
    made = rig.up(rig.plan(network=None, address=None, namespace_of=rig.instance.sidecar, env=(("PORT", "8081"),)))
    assert (made.drift, made.address) == ((), rig.address(10))
    assert made.namespace_of == rig.seen(rig.instance.sidecar).id
    rig.by_hand(rig.instance.sidecar).restart(timeout=1)
    assert rig.seen().drift == (f"left in an old network namespace: {rig.instance.sidecar} was restarted",)


def test_the_edge_joins_networks_later_without_drift(rig: Rig) -> None:
    edge = rig.plan(name=f"{rig.scope.name}_nginx", labels=Labels(server=rig.scope.server, role="edge"))
    made = rig.up(edge)
    other = rig.free_network("joined")
    other.reload()
    address = str(other.attrs["IPAM"]["Config"][0]["Subnet"]).replace(".0/24", ".5")
    for _ in range(2):
        rig.docker.connect(made.id, other.name or "", address)
    seen = rig.seen(edge.name)
    assert seen.drift == () and set(seen.networks) == {rig.network, other.name}
    rig.docker.disconnect(made.id, other.name or "")
    rig.docker.disconnect(made.id, other.name or "")
    assert rig.seen(edge.name).networks == (rig.network,)


def test_a_host_network_container_and_a_restart_by_hand_are_no_drift(rig: Rig) -> None:
    plan = rig.plan(network=None, address=None, host_network=True, command=("sleep", "600"), init=True)
    rig.up(plan)
    rig.by_hand().restart(timeout=1)
    assert rig.seen().drift == ()
