"""The server's own settings: a file, then `RECONCILER_*` from the environment, then the command line; the later wins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from reconciler.errors import Invalid, Problem
from reconciler.model.base import Model
from reconciler.model.grammar import Duration
from reconciler.model.reading import read

DEFAULT_FILE = Path("/etc/reconciler/reconciler.yaml")
PREFIX = "RECONCILER_"
NGINX_IMAGE = "nginx:1.30.1"


def _absolute(value: object) -> object:
    return value if value is None else Path(str(value)).expanduser().absolute()


def _ports(value: object) -> object:
    if isinstance(value, int):
        return (value,)
    return tuple(int(part) for part in value.split(",")) if isinstance(value, str) else value


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
ContainerName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,199}$")]


class StatusSettings(Model):
    """Where status goes. `remote` None: the config repository itself."""

    remote: str | None = None
    ssh_key: AbsolutePath | None = None
    token_file: AbsolutePath | None = None
    max_pushes_per_minute: int = Field(6, ge=1, le=60)
    compact_after: int = Field(
        5000, ge=0, description="commits of a status branch from which on its history is shortened; 0: never"
    )


class Settings(Model):
    """One server's settings. Times in seconds or as `30s`, `5m`."""

    repo: str | None = Field(None, description="URL of the config repository: https, ssh, or a path", repr=False)
    branch: str = "main"
    server: str | None = Field(None, description="this server's name in cluster.yaml")
    state_dir: AbsolutePath = Path("/var/lib/reconciler")
    docker: str = "unix:///var/run/docker.sock"
    nginx_image: str = NGINX_IMAGE
    edge_ports: Annotated[tuple[int, ...], BeforeValidator(_ports)] = (80,)
    edge_address: str = "0.0.0.0"
    edge_name: ContainerName = "nginx"
    edge_shutdown_timeout: Duration = Field(900.0, description="how long websockets of other services survive a reload")
    host_listener: bool = True
    host_name: ContainerName = "nginx_host"
    network_pool: str = "10.213.0.0/16"
    generation_port: int = 4999
    host_generation_port: int = 4998
    local_dir: AbsolutePath = Path("/local")
    policy: AbsolutePath | None = None
    ssh_key: AbsolutePath | None = None
    known_hosts: AbsolutePath | None = None
    token_file: AbsolutePath | None = None
    token_env: str | None = None
    ca_file: AbsolutePath | None = None
    on_rewrite: Literal["accept", "refuse"] = "accept"
    poll_interval: Duration = 30.0
    git_timeout: Duration = 60.0
    status: StatusSettings | Literal["off"] = StatusSettings()


def read_settings(file: Path | None, environment: Mapping[str, str], given: Mapping[str, Any]) -> Settings:
    """Read and merge. `file` None: the default file, if it is there. Raises Invalid with every problem, by place."""
    path = file or DEFAULT_FILE
    values: dict[str, Any] = {}
    if path.exists() or file is not None:
        try:
            settings, _ = read(str(path), path.read_bytes(), Settings)
        except OSError as error:
            raise Invalid([Problem(str(path), 0, 0, f"cannot be read: {error.strerror}")]) from error
        values = {name: getattr(settings, name) for name in settings.model_fields_set}
    sources: dict[str, str] = {}
    for name in Settings.model_fields:
        text = environment.get(PREFIX + name.upper())
        if text:
            values[name], sources[name] = _from_text(text), PREFIX + name.upper()
    for name, value in given.items():
        if value is not None:
            values[name], sources[name] = value, f"--{name.replace('_', '-')}"
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        raise Invalid([Problem(sources.get(str(e["loc"][0]), str(path)), 0, 0, e["msg"]) for e in found]) from None


def environment() -> Mapping[str, str]:
    """The process's environment."""
    return os.environ


def _from_text(text: str) -> object:
    return {"true": True, "false": False}.get(text.lower(), text)
