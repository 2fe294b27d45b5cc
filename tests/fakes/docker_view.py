"""What a listing shows of a simulated container, and what it has become against its plan."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.observed import Container
from tests.fakes.docker_engine import Box


def view(box: Box, owner: Box | None) -> Container:
    """As the adapter shows it. `owner`: whose network namespace it is to share."""
    labels = box.plan.labels
    own = labels.service.network if labels.service is not None else next(iter(box.networks), "")
    address = box.addresses.get(own)
    if box.status == "restarting":  # Docker has it for running, and knows the address that was fixed
        address = box.endpoints.get(own)
    if owner is not None and box.status == owner.status == "running":
        address = owner.addresses.get(own)
    return Container(
        id=box.id,
        name=box.name,
        labels=labels,
        status=box.status,
        created=f"{box.created:08d}",
        image_id=box.image_id,
        address=address,
        pid=box.pid,
        exit_code=box.exit_code if box.status == "exited" else None,
        restarts=box.restarts,
        namespace_of=box.joined,
        networks=box.networks,
        drift=tuple(drift(box, owner)),
    )


def drift(box: Box, owner: Box | None) -> Iterator[str]:
    """What differs from its plan, in words. `owner`: whose network namespace it is to share."""
    plan = box.plan
    if box.name != plan.name:
        yield f"renamed from {plan.name} to {box.name}"
    yield from box.by_hand
    if box.restart != plan.restart:
        yield f"restart policy {plan.restart} -> {box.restart}"
    if box.joined is None and not plan.host_network:
        wanted = plan.network or "bridge"
        if wanted not in box.networks:
            yield f"disconnected from {wanted}"
        else:
            has = box.endpoints[wanted]
            if plan.address is not None and has != plan.address:
                yield f"address on {wanted} {plan.address} -> {has or 'none fixed'}"
            lost = [alias for alias in sorted(plan.aliases) if alias not in box.aliases.get(wanted, ())]
            if lost and plan.network:
                yield f"aliases on {wanted} lost: {', '.join(lost)}"
        if plan.labels.role != "edge":
            yield from (f"connected to {network}" for network in box.networks if network != wanted)
    if owner is not None and box.status == owner.status == "running" and box.inside != owner.namespace:
        yield f"left in an old network namespace: {owner.name} was restarted"
