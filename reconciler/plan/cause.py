"""Why a rollout happens, in words for a commit subject: `image postgres:15 -> postgres:16 (a1b2c3d "Bump postgres")`."""

from __future__ import annotations

from reconciler.model.desired import ContainerSpec, DesiredService, Revision

_FIELDS = (
    "command",
    "entrypoint",
    "port",
    "user",
    "working_dir",
    "mounts",
    "secrets",
    "resources",
    "health",
    "stop_signal",
    "init",
    "read_only",
    "privileged",
    "cap_add",
    "sidecar",
    "publish",
    "stateless",
    "needs",
)


def cause(old: DesiredService | None, new: DesiredService, revision: Revision) -> str:
    """What differs between two specs. Values of environment variables are never named, only their keys."""
    if old is None:
        return f"first deploy ({revision})"
    changes = _changes(old.spec, new.spec)
    return f"{', '.join(changes) if changes else 'spec changed'} ({revision})"


def _changes(old: ContainerSpec, new: ContainerSpec) -> list[str]:
    changes = []
    if old.image != new.image and (old.image or new.image):
        changes.append(f"image {old.image or 'build'} -> {new.image or 'build'}")
    old_tree, new_tree = (spec.build.tree[:7] if spec.build else None for spec in (old, new))
    if old_tree != new_tree and old_tree and new_tree:
        changes.append(f"build {old_tree} -> {new_tree}")
    if old.env != new.env:
        before, after = dict(old.env), dict(new.env)
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        changes.append(f"env {', '.join(names)}")
    changes.extend(field.replace("_", " ") for field in _FIELDS if getattr(old, field) != getattr(new, field))
    return changes
