"""A service's spec to the containers that run it (DESIGN sections 3 and 4)."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from reconciler.model.container import ContainerPlan, Labels, Publish
from reconciler.model.desired import DesiredService, Mount
from reconciler.model.identity import InstanceKey
from reconciler.model.site import Site
from reconciler.plan.addresses import Pair


def application(
    site: Site, service: DesiredService, instance: InstanceKey, image: str, labels: Labels, publish: tuple[Publish, ...]
) -> ContainerPlan:
    """The application's container: in its sidecar's namespace, or on the project network itself when it needs nobody."""
    spec, key = service.spec, instance.service
    secrets = tuple(
        Mount(
            kind="bind",
            source=f"{site.local_dir}/{key.project}/{key.env}/secrets/{name}",
            target=f"/run/secrets/{name}",
            read_only=True,
        )
        for name in spec.secrets
    )
    alone = not spec.sidecar
    return _shaped(
        ContainerPlan(
            name=instance.name,
            image=image,
            labels=labels.model_copy(update={"role": "application"}),
            command=spec.command,
            entrypoint=spec.entrypoint,
            env=spec.env,
            user=spec.user,
            working_dir=spec.working_dir,
            network=key.network if alone else None,
            address=_address(labels.addresses, instance) if alone else None,
            aliases=(instance.name,) if alone else (),
            namespace_of=None if alone else instance.sidecar,
            publish=publish if alone else (),
            mounts=(*spec.mounts, *secrets),
            resources=spec.resources,
            restart="on-failure",
            stop_signal=spec.stop_signal,
            stop_grace=service.drain.grace,
            init=spec.init,
            read_only=spec.read_only,
            privileged=spec.privileged,
            cap_add=spec.cap_add,
            image_volumes="tmpfs" if spec.stateless else "refuse",
        )
    )


def sidecar(site: Site, instance: InstanceKey, labels: Labels, publish: tuple[Publish, ...]) -> ContainerPlan:
    """The sidecar: owns the namespace, the address, the aliases and the published port. Its death takes the pair with it."""
    return _shaped(
        ContainerPlan(
            name=instance.sidecar,
            image=site.nginx_image,
            labels=labels.model_copy(update={"role": "sidecar"}),
            entrypoint=("nginx",),
            command=("-c", f"{site.nginx_mount}/nginx.conf"),
            network=instance.service.network,
            address=_address(labels.addresses, instance),
            aliases=(instance.name,),
            publish=publish,
            mounts=(_config(site, instance.sidecar),),
            restart="no",
            stop_signal="SIGTERM",
            stop_grace=2.0,
        )
    )


@lru_cache(maxsize=16)
def edge(site: Site, network: str, address: str) -> ContainerPlan:
    """The edge, on its first project network; it is connected to the others after its creation."""
    return _shaped(
        ContainerPlan(
            name=site.edge_name,
            image=site.nginx_image,
            labels=Labels(server=site.server, role="edge"),
            entrypoint=("nginx",),
            command=("-c", f"{site.nginx_mount}/nginx.conf"),
            network=network,
            address=address,
            publish=tuple(Publish(host_address=site.edge_address, host_port=port, container_port=port) for port in site.edge_ports),
            mounts=(_config(site, site.edge_name),),
            restart="always",
            stop_signal="SIGQUIT",
            stop_grace=10.0,
        )
    )


@lru_cache(maxsize=16)
def host_listener(site: Site) -> ContainerPlan:
    """The nginx in the server's own namespace that gives processes outside Docker the same localhost ports."""
    return _shaped(
        ContainerPlan(
            name=site.host_name,
            image=site.nginx_image,
            labels=Labels(server=site.server, role="host"),
            entrypoint=("nginx",),
            command=("-c", f"{site.nginx_mount}/nginx.conf"),
            host_network=True,
            mounts=(_config(site, site.host_name),),
            restart="always",
            stop_signal="SIGTERM",
            stop_grace=2.0,
        )
    )


def _config(site: Site, name: str) -> Mount:
    return Mount(kind="bind", source=f"{site.nginx_root}/{name}", target=site.nginx_mount, read_only=True)


def _address(pair: Pair | None, instance: InstanceKey) -> str | None:
    if pair is None:
        return None
    return pair[0] if instance.slot == "primary" else pair[1]


def _shaped(plan: ContainerPlan) -> ContainerPlan:
    """Stamp the plan with a digest of what it gives (not of the labels that say why), so that another plan is told apart."""
    # The edge is on many networks, and which of them came first is no difference.
    besides = {"labels", "network", "address"} if plan.labels.role == "edge" else {"labels"}
    given = plan.model_dump(mode="json", exclude=besides, exclude_defaults=True)
    shape = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]
    return plan.model_copy(update={"labels": plan.labels.model_copy(update={"shape": shape})})
