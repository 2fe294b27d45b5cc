"""What is desired against what is live, field by field. Values of environment variables and secrets are never shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.model.base import Model
from reconciler.model.desired import ContainerSpec, DesiredService, Mount
from reconciler.model.identity import ServiceKey
from reconciler.model.printable import shown
from reconciler.render.terminal import Note, Tone

HIDDEN = "(hidden)"
_SPEC_FIELDS = (
    *("port", "command", "entrypoint", "user", "working_dir", "health", "resources", "stop_signal", "init", "read_only"),
    *("privileged", "cap_add", "sidecar", "publish", "stateless", "needs"),
)
_SERVICE_FIELDS = ("strategy", "rolling", "replicas", "servers", "internal_port", "public", "drain", "suspend")


@dataclass(frozen=True)
class FieldDifference:
    """One field. `live` or `desired` is None where the other side alone has it."""

    field: str
    live: str | None
    desired: str | None


@dataclass(frozen=True)
class ServiceDifference:
    """One service. `kind`: added, removed, changed, same, or unknown (the config of what is live is not at hand)."""

    service: str
    kind: str
    fields: tuple[FieldDifference, ...]
    drift: tuple[str, ...]


def compare(
    name: str, live: DesiredService | None, desired: DesiredService | None, *, runs: bool, drift: tuple[str, ...]
) -> ServiceDifference:
    """`live`: the service as the config described it when what is live was started. `runs`: whether anything is live at all."""
    if desired is None:
        return ServiceDifference(name, "removed", (), drift)
    if not runs:
        return ServiceDifference(name, "added", (), drift)
    if live is None:
        return ServiceDifference(name, "unknown", (), drift)
    found = tuple(_differences(live, desired))
    return ServiceDifference(name, "changed" if found or drift else "same", found, drift)


def difference_note(found: ServiceDifference, revision: str) -> Note:
    """For people."""
    lines = [f"{entry.field}: {_or(entry.live)} -> {_or(entry.desired)}" for entry in found.fields]
    lines += [f"by hand: {what}" for what in found.drift]
    said: dict[str, tuple[str, Tone]] = {
        "added": ("would be deployed; nothing of it is live", "good"),
        "removed": ("is live, and the config no longer has it", "bad"),
        "unknown": (f"the config of what is live, at {revision[:7]}, is not at hand; give --repo", "warn"),
        "changed": ("", "warn"),
        "same": ("no difference", "dim"),
    }
    text, tone = said[found.kind]
    return Note(found.service, text, tone, tuple(lines))


def _differences(live: DesiredService, desired: DesiredService) -> Iterable[FieldDifference]:
    old, new = live.spec, desired.spec
    if _source(old) != _source(new):
        yield FieldDifference("image", _source(old), _source(new))
    yield from _named("env", dict(old.env), dict(new.env), hidden=True)
    yield from _named("secrets", dict.fromkeys(old.secrets, ""), dict.fromkeys(new.secrets, ""), hidden=True)
    yield from _named("mount", _mounts(old), _mounts(new), hidden=False)
    for field in _SPEC_FIELDS:
        before, after = getattr(old, field), getattr(new, field)
        yield from _parts(field.replace("_", " "), before, after)
    for field in _SERVICE_FIELDS:
        before, after = getattr(live, field), getattr(desired, field)
        yield from _parts(field.replace("_", " "), before, after)


def _parts(field: str, before: object, after: object) -> Iterable[FieldDifference]:
    """One difference, or for a value with fields of its own one for each that differs."""
    if isinstance(before, Model) and isinstance(after, Model):
        for name in type(before).model_fields:
            yield from _parts(f"{field} {name.replace('_', ' ')}", getattr(before, name), getattr(after, name))
    elif before != after:
        yield FieldDifference(field, _value(before), _value(after))


def _source(spec: ContainerSpec) -> str:
    return f"build of {spec.build.dockerfile} at {spec.build.tree[:12]}" if spec.build is not None else spec.image or "none"


def _named(field: str, old: Mapping[str, str], new: Mapping[str, str], *, hidden: bool) -> Iterable[FieldDifference]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            before, after = (HIDDEN if hidden and side.get(name) is not None else side.get(name) for side in (old, new))
            if hidden and before == after:
                after = "(hidden, different)"
            yield FieldDifference(f"{field} {name}", before, after)


def _mounts(spec: ContainerSpec) -> Mapping[str, str]:
    return {mount.target: _mount(mount) for mount in spec.mounts}


def _mount(mount: Mount) -> str:
    words = [mount.kind, mount.source, "read-only" if mount.read_only else "", "shared" if mount.shared else ""]
    return " ".join(word for word in words if word)


def _value(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    if value is None or isinstance(value, bool | str):
        return shown(value)
    if isinstance(value, ServiceKey):
        return str(value)
    if isinstance(value, Model):
        return _value(value.model_dump(exclude_defaults=True))
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_value(part)}" for name, part in value.items()) or "nothing"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(part) for part in value) + "]"
    return shown(str(value))


def _or(text: str | None) -> str:
    return text if text is not None else "nothing"
