"""Writes the tables of docs/configuration.md from the schemas and the settings, so that no key, default or limit is out of date.

tools/configuration_page.py            write
tools/configuration_page.py --check    only tell whether the page is as it would be written: exit 1 if not
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from reconciler.engine.settings import Settings, StatusSettings
from reconciler.model.policy import Policy

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/configuration.md"
Schema = Mapping[str, Any]

# What the models do not say themselves. A key that is in neither place is an error, and so is one that is in both.
MEANING = {
    "cluster.servers": "the servers, by name",
    "cluster.rollout": "defaults of rollouts",
    "ServerSource.zone": "what `server_zone` of a service names",
    "ServerSource.state": "`drained`: nothing new is placed there and its services move away; its edge stays",
    "project.project": "the project in this environment",
    "ProjectSource.name": "the same as the directory's name",
    "ProjectSource.version": "for people; nothing depends on it",
    "ProjectSource.services": "the services, by name",
    "ProjectSource.suspend": "no rollouts of any service of this file; what is live is kept alive",
    "ServiceSource.image": "an image reference; a tag is resolved once for each rollout. One of `image` and `dockerfile`",
    "ServiceSource.servers_count": "on how many servers of the zone",
    "ServiceSource.server_zone": "the zone to place it in",
    "ServiceSource.health": "the health gate; a TCP connection to the port if not given",
    "ServiceSource.public": "entries at the edge: one, or a list",
    "ServiceSource.volumes": "name -> path in the container, or name -> a mapping (below); an absolute host path needs the policy",
    "ServiceSource.secrets": "files below `<local_dir>/<project>/<env>/secrets`, mounted read-only in /run/secrets",
    "ServiceSource.env": "environment variables",
    "ServiceSource.command": "instead of the image's command; text is split like a shell does",
    "ServiceSource.entrypoint": "instead of the image's entrypoint",
    "ServiceSource.user": "user, or user:group",
    "ServiceSource.working_dir": "absolute path",
    "ServiceSource.resources": "limits of each container",
    "ServiceSource.stop_signal": "instead of SIGTERM or what the image says",
    "ServiceSource.init": "a small init as process 1, which hands signals on",
    "ServiceSource.tmpfs": "paths in the container that are in memory",
    "ServiceSource.rollout": "how a new version takes over",
    "ServiceSource.drain": "how an old slot ends",
    "ServiceSource.suspend": "no rollouts; what is live is kept alive",
    "HealthSource.interval": "between two probes",
    "HealthSource.timeout": "of one probe",
    "HealthSource.start_period": "failures before this do not count",
    "HealthSource.min_healthy_time": "healthy for at least this long before it gets traffic",
    "PublicSource.path": "requests below this path",
    "PublicSource.read_timeout": "longest silence of the service in an answer",
    "VolumeSource.target": "path in the container",
    "VolumeSource.read_only": "a service whose volumes are all read-only or shared is not stateful",
    "ResourcesSource.cpus": "such as 1.5",
    "ResourcesSource.pids": "processes and threads",
    "RolloutSource.progress_deadline": "instead of the cluster's default",
    "DrainSource.websockets": "`signal`: the old slot is told to stop while it still has its clients, so that it can tell them; "
    "`wait` for them to go; `cut` them",
    "DrainSource.timeout": "longest wait for connections to end",
    "settings.branch": "of the config repository; the reconciler never writes it",
    "settings.state_dir": "the clone, nginx's configurations and this server's memory",
    "settings.docker": "where the Docker Engine answers",
    "settings.nginx_image": "1.27.4 or newer, for the edge, the host listener and the sidecars",
    "settings.edge_ports": "public HTTP ports",
    "settings.edge_address": "the address that the public ports are published on",
    "settings.edge_name": "the edge's container name",
    "settings.host_listener": "internal ports on the host's own 127.0.0.1",
    "settings.host_name": "the host listener's container name",
    "settings.network_pool": "project networks are /24 parts of it",
    "settings.generation_port": "where nginx says, inside its own network namespace, what it has loaded",
    "settings.host_generation_port": "the same for the host listener, on the host's 127.0.0.1",
    "settings.local_dir": "holds `<project>/<env>/secrets`",
    "settings.policy": "this server's policy file (below)",
    "settings.ssh_key": "private key for the config repository",
    "settings.known_hosts": "host keys to expect",
    "settings.token_file": "a file that holds an HTTPS token",
    "settings.token_env": "the environment variable that holds it instead",
    "settings.ca_file": "certificates to trust for HTTPS",
    "settings.on_rewrite": "when the config branch was rewritten: follow it, or stay and say so",
    "settings.poll_interval": "between two looks at the repository; a repository on this machine is watched besides",
    "settings.git_timeout": "of one Git command",
    "settings.status": "`off`, or the keys below",
    "status.remote": "another repository for the status refs, so that the key of the config can be read-only",
    "status.ssh_key": "for that repository",
    "status.token_file": "for that repository",
    "status.max_pushes_per_minute": "delays only what nobody waits for",
    "policy.allow_privileged": "`project`, `project/env` or `project/env/service` that may be `privileged`",
    "policy.allow_capabilities": "capabilities that `cap_add` may name",
    "policy.allow_host_paths": "host paths that volumes may name, and what is below them",
}
ALWAYS = {"cluster.servers", "project.project", "ProjectSource.name", "ProjectSource.services", "VolumeSource.target"}


def main() -> int:
    text = PAGE.read_text()
    written = rewritten(text)
    if "--check" in sys.argv[1:]:
        if written != text:
            print("docs/configuration.md is out of date: run tools/configuration_page.py", file=sys.stderr)
        return int(written != text)
    PAGE.write_text(written)
    return 0


def rewritten(text: str) -> str:
    """The page with every table between its marks made anew. Raises ValueError for a key that has no meaning, or two."""
    tables = {name: list(_rows(name, schema)) for name, schema in _schemas().items()}
    unused = MEANING.keys() - {row[0] for rows in tables.values() for row in rows}
    missing = tables.keys() - set(re.findall(r"<!-- table: (\w+) -->", text))
    if unused or missing:
        raise ValueError(f"meanings of keys that are not there: {sorted(unused)}; tables that the page lacks: {sorted(missing)}")

    def table(match: re.Match[str]) -> str:
        lines = ["| key | default | meaning |", "|---|---|---|"]
        lines += [f"| `{path.split('.')[1]}` | {default} | {meaning} |" for path, default, meaning in tables[match[1]]]
        return f"<!-- table: {match[1]} -->\n" + "\n".join(lines) + "\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def _schemas() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for name in ("cluster", "project"):
        schema = json.loads((ROOT / f"schemas/{name}.json").read_text())
        found |= {name: schema, **schema.get("$defs", {})}
    own: dict[str, type[BaseModel]] = {"settings": Settings, "status": StatusSettings, "policy": Policy}
    return found | {name: model.model_json_schema() for name, model in own.items()}


def _rows(name: str, schema: Schema) -> Iterator[tuple[str, str, str]]:
    """(path, default, meaning) of each key."""
    for key, value in schema.get("properties", {}).items():
        path = f"{name}.{key}"
        told, own = value.get("description"), MEANING.get(path)
        if bool(told) == bool(own):
            raise ValueError(f"{path}: {'its meaning stands in the model too' if told else 'has no meaning; write it in MEANING'}")
        allowed = value.get("enum")
        text = (told or own or "") + (f" ({', '.join(f'`{word}`' for word in allowed)})" if allowed else "")
        yield path, _default(path, value), text.replace("|", "\\|")


def _default(path: str, value: Schema) -> str:
    if path in ALWAYS:
        return "required"
    default = value.get("default")
    if default is None or default in ({}, []) or isinstance(default, dict):
        return ""
    if isinstance(default, float):
        return f"`{default:g}s`"
    if isinstance(default, list):
        return "`[" + ", ".join(map(str, default)) + "]`"
    return f"`{json.dumps(default) if not isinstance(default, str) else default}`"


if __name__ == "__main__":
    sys.exit(main())
