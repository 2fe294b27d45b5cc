"""A simulated program carries out what its plan says, effect by effect."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.engine.carrying import back_off
from reconciler.engine.executor import steps
from reconciler.errors import Transient
from reconciler.model.action import (
    Action,
    PrepareImage,
    Reload,
    SignalInstance,
    StartContainer,
    StartInstance,
    StartNginx,
    instance_of,
)
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.effect import Effect, Switch, WriteConfig
from reconciler.model.observed import Observed
from reconciler.model.switched import Switched
from reconciler.plan import facts
from reconciler.plan.masks import pulse_targets, several
from reconciler.plan.wanted import wanted
from tests.simulation.looking import nginx_states
from tests.simulation.trace import Pass

if TYPE_CHECKING:
    from tests.simulation.daemon import Answer, Daemon, Moment


@dataclass
class InHand:
    """An action in the background: the effect that comes next, those after it, and when they are done."""

    action: Action
    effect: Effect
    rest: Iterator[Effect]
    due: float


def carry_out(
    daemon: Daemon, desired: Desired, observed: Observed, cluster: ClusterState, event: Pass
) -> Generator[Moment, Answer, None]:
    """Plan, and do it effect by effect: each is yielded before it is done."""
    world = daemon.world
    intended = daemon.intended(desired, cluster, observed)
    daemon.pulses.watch(pulse_targets(desired, cluster, observed, several(intended)), world.now)
    actions = world.rules.plan(desired, cluster, observed, daemon.elapsed(cluster, observed), daemon.site, intended)
    healing = {w.instance.name for w in wanted(desired, cluster, observed) if not w.gated}
    planned = {_about(action) for action in (*actions, *(held.action for held in daemon.in_hand.values()))}
    daemon.troubles = {about: trouble for about, trouble in daemon.troubles.items() if about in planned}
    for action in actions:
        instance = instance_of(action)
        trouble = daemon.troubles.get(_about(action))
        if instance in daemon.in_hand or (trouble is not None and trouble[0] > daemon.clock()):
            continue
        world.acts(daemon, action)
        if isinstance(action, PrepareImage):
            daemon.pulls.prepare(action, world.now, answers=event.pull)
            continue
        if isinstance(action, SignalInstance):
            daemon.disk.marks.add(facts.signalled(action.id))
            daemon.disk.times.setdefault(facts.signalled(action.id), daemon.clock())
        if instance in healing and isinstance(action, StartInstance | StartContainer):
            daemon.heals.setdefault(instance or "", []).append(daemon.clock())
        yield from _steps(daemon, action, instance, event)


def _steps(daemon: Daemon, action: Action, instance: str | None, event: Pass) -> Generator[Moment, Answer, None]:
    rest = _parts(daemon, steps(action, daemon.texts.render))
    for effect in rest:
        answer = yield effect
        if isinstance(answer, Exception):
            failed(daemon, action, answer)
            return
        if answer == "lingers" and instance is not None:
            daemon.in_hand[instance] = InHand(action, effect, rest, daemon.world.now + event.seconds)
            return
        if answer == "lingers":
            failed(daemon, action, Transient("out of time"))
            return
        if isinstance(effect, Switch) and isinstance(action, Reload):
            _learn(daemon, effect, action)
    daemon.troubles.pop(_about(action), None)


def _learn(daemon: Daemon, switch: Switch, action: Reload) -> None:
    """What the engine is told of a switch: an nginx that has not done loading has not refused."""
    told, states = {target.name: target for target in switch.targets}, nginx_states(daemon.boxes)
    boxes = [box for box in daemon.boxes.nginxes() if box.plan.name in told and (box.coming is None or box.coming[1] is None)]
    outcomes = [
        Switched(name, states[name].loaded == told[name].fingerprint, None, states[name])
        for name in (box.plan.name for box in boxes)
    ]
    tried = {config.name: config for config in action.configs}
    daemon.refusals.learn(outcomes, tried, {box.plan.name: box.number for box in boxes})


def _parts(daemon: Daemon, effects: Iterator[Effect]) -> Iterator[Effect]:
    """A switch as what it is made of: the files of all, then each nginx told; the program may end between any two."""
    for effect in effects:
        if isinstance(effect, Switch):
            running = {box.plan.name for box in daemon.boxes.nginxes()}
            for target in effect.targets:
                if target.name in running:
                    yield WriteConfig(name=target.name, text=target.text)
            for target in effect.targets:
                yield Switch(targets=(target,))
        else:
            yield effect


def failed(daemon: Daemon, action: Action, error: Exception) -> None:
    """Remember what went wrong, and when to try again."""
    count = daemon.troubles.get(_about(action), (0.0, 0))[1] + 1
    again = daemon.clock() + back_off(count)
    about = action.container.name if isinstance(action, StartNginx) else None
    if isinstance(action, StartInstance | StartContainer):
        about = instance_of(action)
    daemon.troubles[_about(action)] = (again, count, about, True, str(error))


def _about(action: Action) -> str:
    name = instance_of(action) or getattr(action, "reference", None) or getattr(action, "name", None)
    container = getattr(action, "container", "")
    return f"{action.kind} {name or getattr(container, 'name', container)}"
