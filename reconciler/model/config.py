"""The source files as people write them: `projects/<project>/<env>.yaml`. One source for reading, messages and JSON Schemas.

What is not given stays unset (`model_fields_set`): only given values count for the spec digest (DESIGN section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from reconciler.model import grammar as g


class SourceModel(BaseModel):
    """A part of a source file: frozen, nothing unknown, nothing converted silently. Raised by pydantic, told by `model.reading`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Without null: a key that is not given is left out, and a key without a value is refused (`model.reading`)."""
        found = handler(schema)
        for field in handler.resolve_ref_schema(found).get("properties", {}).values():
            kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
            if len(kinds) == 1:
                del field["anyOf"]
                field.update({name: value for name, value in kinds[0].items() if name not in field})
            elif kinds:
                field["anyOf"] = kinds
            if "patternProperties" in field:  # names that do not match are errors, not unknown
                field["additionalProperties"] = False
            if "default" in field and field["default"] is None:
                del field["default"]
        return found


def _true_or_port(value: Any) -> Any:
    if value is not True and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535):
        raise ValueError("expected true (the service's port) or a port number")
    return value


CHECKS = ("http", "tcp", "command", "docker")


class HealthSource(SourceModel):
    """The health gate: exactly one check, and its timing."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [check]} for check in CHECKS]})

    http: g.UrlPath | None = Field(None, description="GET this path; 200 to 399 is healthy")
    tcp: Annotated[bool | int, BeforeValidator(_true_or_port, json_schema_input_type=Literal[True] | g.Port)] | None = Field(
        None, description="connect to the service's port (true) or this one"
    )
    command: g.SomeWords | None = Field(None, description="run this in the container; 0 is healthy")
    docker: Literal[True] | None = Field(None, description="follow the image's HEALTHCHECK")
    port: g.Port | None = Field(None, description="port for http and tcp; the service's port if not given")
    interval: g.PositiveDuration = 2.0
    timeout: g.PositiveDuration = 2.0
    retries: int = Field(15, ge=1, le=1000, description="consecutive failures after start_period that fail the gate")
    start_period: g.Duration = 0.0
    successes: int = Field(2, ge=1, le=100, description="consecutive successes needed")
    min_healthy_time: g.Duration = 0.0


class PublicSource(SourceModel):
    """An entry at the edge."""

    hosts: Annotated[tuple[g.Host, ...], g.NOT_EMPTY, g.DISTINCT] | None = Field(None, description="any host if not given")
    path: g.UrlPath = "/"
    rewrite: g.UrlPath | None = Field(
        None, description="replaces `path` at the front; the path is passed on unchanged if not given"
    )
    read_timeout: g.PositiveDuration = 60.0
    body_limit: g.Size = Field(0, description="the largest request body, such as 10m; 0 is no limit")


class VolumeSource(SourceModel):
    """Where a volume is mounted."""

    target: g.ContainerPath
    read_only: bool = False
    shared: bool = Field(False, description="several instances may write at the same time")


class ResourcesSource(SourceModel):
    """Limits of each container."""

    memory: Annotated[g.Size, Field(ge=6 * 1024**2)] | None = Field(None, description="such as 256m; at least 6m")
    cpus: float | None = Field(None, gt=0, le=1024)
    pids: int | None = Field(None, ge=1, le=4_194_304)


LATER_STRATEGIES = ("canary", "blue_green", "ab_test")


def _available(value: Any) -> Any:
    if value in LATER_STRATEGIES:
        raise ValueError("this strategy is not available yet; expected toggle, rolling or recreate")
    return value


ROLLING = ("max_parallel", "max_unavailable", "soak", "on_failure")
"""Keys of `rollout` that belong to the rolling strategy: one of them given means it, where no strategy is."""


class RolloutSource(SourceModel):
    """How a new version takes over."""

    strategy: Annotated[Literal["toggle", "rolling", "recreate"], BeforeValidator(_available)] | None = Field(
        None, description="toggle; recreate for stateful services; rolling where one of its keys is given"
    )
    max_parallel: int = Field(1, ge=1, le=1000, description="rolling: servers switched at a time")
    max_unavailable: int = Field(
        0, ge=0, le=1000, description="rolling: other servers that may lack a healthy instance when the next ones are switched"
    )
    soak: g.Duration = Field(30.0, description="rolling: how long switched instances have to stay healthy before the next ones")
    on_failure: Literal["abort_all", "abort_local"] = Field(
        "abort_all",
        description="rolling: `abort_all` takes every server back, `abort_local` the failing ones; either stops the line",
    )
    rollback: Literal["image"] | None = Field(None, description="recreate: go back by itself if the new process was never healthy")
    progress_deadline: g.PositiveDuration | None = None


class DrainSource(SourceModel):
    """How an old slot ends."""

    websockets: Literal["signal", "wait", "cut"] = "signal"
    timeout: g.Duration = 30.0
    grace: g.Duration = Field(10.0, description="from the stop signal to SIGKILL")


def _volume_forms(value: Any) -> Any:
    """`name: /target` is short for `name: {target: /target}`."""
    if not isinstance(value, Mapping):
        return value
    return {key: {"target": given} if isinstance(given, str) else given for key, given in value.items()}


def _list_of_one(value: Any) -> Any:
    """One mapping is short for a list of one."""
    return (value,) if isinstance(value, Mapping) else value


Volumes = Annotated[
    Mapping[g.VolumeKey, VolumeSource],
    BeforeValidator(_volume_forms, json_schema_input_type=Mapping[g.VolumeKey, g.ContainerPath | VolumeSource]),
]
Public = Annotated[
    tuple[PublicSource, ...], BeforeValidator(_list_of_one, json_schema_input_type=PublicSource | tuple[PublicSource, ...])
]


class ServiceSource(SourceModel):
    """One service of a project."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["image"]}, {"required": ["dockerfile"]}]})

    image: g.Image | None = None
    dockerfile: g.DockerfilePath | None = Field(None, description="a Dockerfile in the project's directory, instead of an image")
    port: g.Port | None = Field(None, description="the container's port; known for common images and from EXPOSE")
    internal_port: g.Port | None = Field(None, description="the port on localhost for consumers, only to resolve a collision")
    servers_count: int = Field(1, ge=1, le=1000)
    server_zone: g.Name | None = None
    servers: Annotated[tuple[g.Name, ...], g.NOT_EMPTY, g.DISTINCT] | None = Field(None, description="pins to these servers")
    replicas: int = Field(1, ge=1, le=99, description="per server")
    needs: Mapping[g.Alias, g.Name] | None = Field(None, description="alias -> service; {} for none; every service if not given")
    health: HealthSource | None = None
    public: Public | None = None
    volumes: Volumes | None = None
    secrets: Annotated[tuple[g.SecretName, ...], g.DISTINCT] | None = None
    env: g.Variables | None = None
    command: g.SomeWords | None = None
    entrypoint: g.Words | None = None
    user: g.User | None = None
    working_dir: g.ContainerPath | None = None
    resources: ResourcesSource | None = None
    stop_signal: g.Signal | None = None
    init: bool = False
    read_only: bool = Field(False, description="the container's root file system")
    tmpfs: Annotated[tuple[g.ContainerPath, ...], g.DISTINCT] | None = None
    privileged: bool = Field(False, description="refused unless the server's own policy allows it")
    cap_add: Annotated[tuple[g.Capability, ...], g.DISTINCT] | None = Field(None, description="as privileged")
    rollout: RolloutSource | None = None
    drain: DrainSource | None = None
    suspend: bool = False
    stateless: bool = Field(False, description="the data on its volumes may go")


class ProjectSource(SourceModel):
    """One project in one environment."""

    name: g.Name
    version: g.Text | None = None
    services: Mapping[g.Name, ServiceSource]
    suspend: bool = False


class ProjectFile(SourceModel):
    """`projects/<project>/<env>.yaml`."""

    project: ProjectSource
