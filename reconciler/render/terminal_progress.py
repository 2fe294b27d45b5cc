"""One line per step while it is carried out."""

from __future__ import annotations

from reconciler.model import effect as e
from reconciler.model.effect import Effect


def effect_line(effect: Effect, *, all_steps: bool = False) -> str | None:
    """What is being done now, in words; None for small steps that are only said when all are asked for."""
    match effect:
        case e.CreateNetwork():
            return f"create network {effect.name} ({effect.subnet})"
        case e.Create():
            return f"create {effect.plan.name} from {_image(effect.plan.image)}"
        case e.Stop():
            return f"stop {effect.name} (up to {effect.grace:.0f} s)"
        case e.Signal():
            return f"send {effect.signal} to {_short(effect.container)}"
        case e.Switch():
            return f"switch {', '.join(target.name for target in effect.targets)}"
        case e.Restore():
            return f"undo what was changed by hand on {effect.plan.name}"
        case e.RemoveNetwork():
            return f"remove network {effect.name}"
        case e.Unpause():
            return f"unpause {_short(effect.container)}"
    return _small(effect) if all_steps else None


def _small(effect: Effect) -> str:
    match effect:
        case e.Start():
            return f"start {_short(effect.container)}"
        case e.Remove():
            return f"remove {_short(effect.container)}"
        case e.Connect():
            return f"connect {effect.container} to {effect.network} at {effect.address}"
        case e.WriteConfig() | e.ForgetConfig():
            return f"{effect.kind.replace('_', ' ')} of {effect.name}"
    return effect.kind.replace("_", " ")


def _short(container: str) -> str:
    """A container's name, or the first twelve digits of its id."""
    return container[:12] if len(container) == 64 else container


def _image(reference: str) -> str:
    return f"image {reference.removeprefix('sha256:')[:12]}" if reference.startswith("sha256:") else reference
