"""Docker's inspect read as a container."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.effects.docker_list import to_container
from reconciler.effects.docker_shape import LABEL_EXPECTED, Shape
from reconciler.model.container import Labels
from reconciler.model.identity import ServiceKey

KEY = ServiceKey("shop", "prod", "web")
LABELS = Labels(server="a", role="application", service=KEY, slot="primary")
JOINED = {"IPAMConfig": {"IPv4Address": "10.213.0.10"}, "EndpointID": "e1", "IPAddress": "10.213.0.10"}
REFUSED = {"IPAMConfig": {"IPv4Address": "10.213.0.10"}, "EndpointID": "", "IPAddress": ""}


def inspected(endpoint: dict[str, Any], **state: object) -> dict[str, Any]:
    shape = Shape(name="shop_prod_web", networks={KEY.network: "10.213.0.10"})
    return {
        "Id": "1" * 64,
        "Name": "/shop_prod_web",
        "State": {"Status": "running", "Running": True, "Pid": 7, **state},
        "Config": {"Labels": {LABEL_EXPECTED: shape.to_label()}},
        "HostConfig": {},
        "NetworkSettings": {"Networks": {KEY.network: endpoint}},
    }


def test_a_network_with_an_endpoint_is_joined() -> None:
    container = to_container(inspected(JOINED), LABELS)
    assert (container.networks, container.address, container.drift) == ((KEY.network,), "10.213.0.10", ())


def test_a_network_that_a_running_container_could_not_join_is_not_joined() -> None:
    """Docker lists it, without an endpoint, when the address was taken: it has to be joined again."""
    container = to_container(inspected(REFUSED), LABELS)
    assert (container.networks, container.address, container.drift) == ((), None, (f"disconnected from {KEY.network}",))


@pytest.mark.parametrize(
    "state", [{"Status": "exited", "Running": False, "Pid": 0}, {"Status": "restarting", "Restarting": True, "Pid": 0}]
)
def test_a_container_without_a_process_is_on_the_networks_that_it_is_to_join(state: dict[str, object]) -> None:
    container = to_container(inspected(REFUSED, **state), LABELS)
    assert (container.networks, container.drift) == ((KEY.network,), ())
