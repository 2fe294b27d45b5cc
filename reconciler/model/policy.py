"""What one server allows to the config: its own file, outside of Git, so that a commit cannot widen it. Nothing by default."""

from __future__ import annotations

from reconciler.model import grammar as g
from reconciler.model.config import SourceModel
from reconciler.model.identity import ServiceKey
from reconciler.model.reading import read

DOCKER_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")


class Policy(SourceModel):
    """Allowances. `allow_privileged` names services as `project`, `project/env` or `project/env/service`."""

    allow_privileged: tuple[g.RemovalTarget, ...] = ()
    allow_capabilities: tuple[g.Capability, ...] = ()
    allow_host_paths: tuple[g.ContainerPath, ...] = ()

    def privileged(self, key: ServiceKey) -> bool:
        """Whether the service may be privileged."""
        return any(f"{key}/".startswith(f"{allowed}/") for allowed in self.allow_privileged)

    def host_path(self, key: ServiceKey, path: str) -> bool:
        """Whether the service may mount `path` (normal): its own directory, or what is allowed; the Docker socket never."""
        if any(below(socket, path) for socket in DOCKER_SOCKETS) or path.endswith("/docker.sock"):
            return False
        own = f"/local/{key.project}/{key.env}"
        if below(path, f"{own}/secrets") or path == own:
            return False
        return below(path, own) or any(below(path, allowed) for allowed in self.allow_host_paths)


def below(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or in it. Both absolute and normal."""
    return directory == "/" or path == directory or path.startswith(f"{directory}/")


def read_policy(path: str, data: bytes) -> Policy:
    """Read a policy file (YAML or JSON). Raises Invalid with every problem."""
    return read(path, data, Policy)[0]
