"""Carries out effects, one at a time, through the ports. What it is told twice, it does once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reconciler.engine.ports import DockerPort, NginxPort
from reconciler.errors import ReconcilerError, Transient
from reconciler.model import effect as e
from reconciler.model.effect import Effect
from reconciler.model.switched import Switched

Watch = Callable[[str, Effect], None]
"""Called with "before" and "after" and the effect: progress for people, crashes for tests."""


class Performer:
    """`warn` gets (container name, words) for what went well but not as it should, such as exit 137; no words when it did."""

    def __init__(self, docker: DockerPort, nginx: NginxPort, watch: Watch, warn: Callable[[str, str], None]) -> None:
        self._docker = docker
        self._nginx = nginx
        self._watch = watch
        self._warn = warn
        self._nginx_images: dict[str, str] = {}
        self._new_enough: set[str] = set()
        self._joins: dict[str, str] = {}

    def perform(self, effect: Effect, pids: Mapping[str, int]) -> Sequence[Switched]:
        """Carry out one effect. Raises Transient or Stalled. `pids`: masters of running nginxes by name, for a switch."""
        self._watch("before", effect)
        switched = self._perform(effect, pids)
        self._watch("after", effect)
        return switched

    def _perform(self, effect: Effect, pids: Mapping[str, int]) -> Sequence[Switched]:
        match effect:
            case e.CreateNetwork():
                self._docker.create_network(effect.name, effect.subnet)
            case e.RemoveNetwork():
                for container in effect.leaving:
                    self._docker.disconnect(container, effect.name)
                self._docker.remove_network(effect.name)
            case e.Connect():
                self._docker.connect(effect.container, effect.network, effect.address)
            case e.WriteConfig():
                self._nginx.write(effect.name, effect.text)
            case e.ForgetConfig():
                self._nginx.forget(effect.name)
            case e.Create():
                if effect.plan.namespace_of is not None:
                    self._joins[effect.plan.name] = effect.plan.namespace_of
                self._docker.create(effect.plan)
                if effect.plan.labels.role != "application":
                    self._nginx_images[effect.plan.name] = effect.plan.image
            case e.Start():
                self._start(effect.container)
                self._check_version(effect.container)
            case e.Unpause():
                self._docker.unpause(effect.container)
            case e.Stop():
                self._stop(effect)
            case e.Signal():
                self._docker.kill(effect.container, effect.signal)
            case e.Remove():
                self._docker.remove(effect.container)
            case e.Restore():
                self._docker.restore(effect.container, effect.plan)
            case e.Switch():
                return self._switch(effect, pids)
        return ()

    def _start(self, name: str) -> None:
        """A sidecar whose nginx refused its configuration has ended, and nothing can join its namespace: then say why."""
        try:
            self._docker.start(name)
        except ReconcilerError as error:
            sidecar = self._joins.get(name)
            line = self._nginx.complaint(sidecar) if sidecar is not None else None
            if line is None:
                raise
            raise Transient(f"{sidecar} did not take its configuration: {line}") from error

    def _check_version(self, name: str) -> None:
        """An nginx that loses requests at a reload is not used (NGINX.md); asked once per image. Raises Stalled."""
        image = self._nginx_images.get(name)
        if image is not None and image not in self._new_enough:
            self._nginx.version(name)
            self._new_enough.add(image)

    def _stop(self, effect: e.Stop) -> None:
        code = self._docker.stop(effect.container, None, effect.grace)
        if code == 137:
            self._warn(
                effect.name,
                f"{effect.name} ignored its stop signal for {effect.grace:.0f} s and was killed (exit 137): "
                "handle the signal, or set `init: true` or `stop_signal`",
            )
        elif code is not None:
            self._warn(effect.name, "")

    def _switch(self, effect: e.Switch, pids: Mapping[str, int]) -> Sequence[Switched]:
        targets = [(target, pids[target.name]) for target in effect.targets if target.name in pids]
        if not targets:
            raise Transient("no nginx of this switch is running: it is made in the next pass")
        return self._nginx.switch(targets)
