"""The container's specification and its digest (DESIGN section 3): what is given, and nothing that a newer default could change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from reconciler.model.config import HealthSource, ServiceSource
from reconciler.model.desired import ContainerSpec, Health, Resources
from reconciler.model.identity import ServiceKey
from reconciler.plan.service import Service, alias_variable

ALGORITHM = 1

SHAPING = frozenset(
    {
        "image",
        "dockerfile",
        "port",
        "health",
        "volumes",
        "secrets",
        "env",
        "command",
        "entrypoint",
        "user",
        "working_dir",
        "resources",
        "stop_signal",
        "init",
        "read_only",
        "tmpfs",
        "privileged",
        "cap_add",
        "stateless",
    }
)
"""Keys of a service that shape its container. `needs` counts too, by what it puts into the environment."""


def container_spec(service: Service, project: Mapping[ServiceKey, Service], publish: bool) -> ContainerSpec:
    """The specification of `service` among the services of its project and environment, in one backend mode."""
    source = service.source
    return ContainerSpec(
        digest=spec_digest(service, project, publish),
        image=source.image,
        build=service.build,
        port=service.port,
        command=source.command,
        entrypoint=source.entrypoint,
        env=tuple(sorted({**needs_variables(service, project), **(source.env or {})}.items())),
        user=source.user,
        working_dir=source.working_dir,
        mounts=service.mounts,
        secrets=tuple(sorted(source.secrets or ())),
        resources=Resources.model_validate(source.resources.model_dump()) if source.resources else Resources(),
        health=_health(source.health) if source.health else Health(),
        stop_signal=source.stop_signal,
        init=source.init,
        read_only=source.read_only,
        privileged=source.privileged,
        cap_add=tuple(sorted(source.cap_add or ())),
        sidecar=service.sidecar,
        publish=publish,
        stateless=source.stateless,
        needs=service.needs,
    )


def spec_digest(service: Service, project: Mapping[ServiceKey, Service], publish: bool) -> str:
    """`sha256:` and the hash of the canonical JSON of everything given that shapes the container."""
    payload = {
        "v": ALGORITHM,
        "service": str(service.key),
        "given": _given(service.source),
        "needs": needs_variables(service, project) if service.source.needs is not None else None,
        "build": service.build.tree if service.build else None,
        "publish": publish,
    }
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def needs_variables(service: Service, project: Mapping[ServiceKey, Service]) -> dict[str, str]:
    """`DB_HOST=localhost` and `DB_PORT=<internal port>` for each alias of a given `needs`."""
    found: dict[str, str] = {}
    for alias, provider in service.needs or ():
        found[f"{alias_variable(alias)}_HOST"] = "localhost"
        found[f"{alias_variable(alias)}_PORT"] = str(project[provider].internal_port)
    return found


def _given(source: ServiceSource) -> dict[str, Any]:
    given = source.model_dump(mode="json", exclude_unset=True, include=set(SHAPING))
    for unordered in ("secrets", "cap_add", "tmpfs"):
        if unordered in given:
            given[unordered] = sorted(given[unordered])
    return given


def _health(source: HealthSource) -> Health:
    timing = source.model_dump(exclude_unset=True, exclude={"http", "tcp", "command", "docker"})
    if source.http is not None:
        return Health(kind="http", path=source.http, **timing)
    if source.command is not None:
        return Health(kind="command", command=source.command, **timing)
    if source.docker is not None:
        return Health(kind="docker", **timing)
    port = timing.pop("port", None) if source.tcp is True else source.tcp
    return Health(kind="tcp", port=port, **timing)
