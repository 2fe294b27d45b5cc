"""Which container stands for an instance."""

from __future__ import annotations

from reconciler.model.container import Labels
from reconciler.model.identity import ServiceKey
from reconciler.model.observed import Container, ContainerStatus, Observed

INSTANCE = ServiceKey("shop", "prod", "web").instance("primary", 1)


def container(identity: str, status: ContainerStatus, role: str = "application") -> Container:
    labels = Labels.model_validate({"server": "a", "role": role, "service": INSTANCE.service, "slot": "primary", "spec": "s"})
    return Container(id=identity, name=identity, labels=labels, status=status)


def test_a_running_container_stands_for_its_instance_before_one_that_ended() -> None:
    containers = (
        container("1", "exited"),
        container("3", "running"),
        container("2", "running"),
        container("0", "running", "sidecar"),
    )
    observed = Observed(server="a", containers=containers)
    assert (observed.of(INSTANCE), observed.of(INSTANCE, "sidecar")) == (containers[2], containers[3])
    assert observed.of(INSTANCE.service.instance("secondary", 1)) is None


def test_a_copy_with_other_containers_answers_from_them() -> None:
    observed = Observed(server="a", containers=(container("1", "running"),))
    assert observed.of(INSTANCE) is not None
    assert observed.model_copy(update={"containers": ()}).of(INSTANCE) is None
    assert observed.model_copy(update={"server": "b"}).of(INSTANCE) == observed.of(INSTANCE)
    assert observed == Observed(server="a", containers=(container("1", "running"),))
