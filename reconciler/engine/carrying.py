"""Carries out a plan: each action's steps in order, one action's failure never holding up another, with a back-off for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.engine.executor import Render, steps
from reconciler.engine.images import Images
from reconciler.engine.performer import Performer
from reconciler.engine.ports import ClockPort, JobsPort
from reconciler.errors import ReconcilerError, Stalled, Transient
from reconciler.model.action import (
    Action,
    PrepareImage,
    SignalInstance,
    StartContainer,
    StartInstance,
    StartNginx,
    instance_of,
)
from reconciler.model.report import Condition
from reconciler.model.switched import Switched

FIRST_DELAY = 1.0
MOST_DELAY = 60.0
JOB = "instance:"
HEAL_WINDOW = 600.0
LIVE_FIRST = 10.0
"""Seconds for which a start of what is live holds back the start of what is not: at a boot the traffic comes first, and one
container that Docker cannot start holds up nobody for long."""
STARTS_AT_ONCE = 6
"""A Docker Engine that is asked for a hundred containers at once answers all of them too late."""


@dataclass
class _Trouble:
    """What went wrong with one action, and when it is tried again."""

    error: ReconcilerError
    count: int
    not_before: float
    instance: str | None


@dataclass
class Carried:
    """What came of a plan: actions begun or done, what was switched, and seconds until a failed one is due again."""

    begun: list[Action] = field(default_factory=list)
    switched: list[Switched] = field(default_factory=list)
    next_in: float | None = None


class Carrier:
    """Remembers failures between passes, by what the action is about.

    What concerns one instance runs in the background, so that a container that takes its whole grace to stop holds up nobody else.
    Until its result is taken, before the next observation, nothing else is begun for that instance.
    """

    def __init__(self, performer: Performer, images: Images, clock: ClockPort, jobs: JobsPort, render: Render) -> None:
        self._performer = performer
        self._images = images
        self._clock = clock
        self._jobs = jobs
        self._render = render
        self._troubles: dict[str, _Trouble] = {}
        self._heals: dict[str, list[float]] = {}
        self._in_hand: dict[str, Action] = {}

    def carry_out(self, actions: Sequence[Action], pids: Mapping[str, int], healing: frozenset[str]) -> Carried:
        """Do what is due. `healing` names instances that are brought back, which their back-off counts."""
        carried = Carried()
        planned = {_about(action) for action in (*actions, *self._in_hand.values())}
        self._troubles = {about: trouble for about, trouble in self._troubles.items() if about in planned}
        now = self._clock.monotonic()
        for action in actions:
            trouble = self._troubles.get(_about(action))
            instance = instance_of(action)
            if trouble is not None and trouble.not_before > now:
                carried.next_in = _sooner(carried.next_in, trouble.not_before - now)
            elif isinstance(action, PrepareImage):
                self._images.prepare(action)
                carried.begun.append(action)
            elif instance is None:
                carried.begun.append(action)
                self._here(action, pids, carried)
            elif _started(action) and sum(_started(begun) is not None for begun in self._in_hand.values()) >= STARTS_AT_ONCE:
                continue  # the end of one of them wakes the next pass
            elif instance not in healing and _started(action) and (wait := self._live_first(healing, now)) > 0:
                carried.next_in = _sooner(carried.next_in, wait)
            elif not self._jobs.running(JOB + instance):
                carried.begun.append(action)
                if instance in healing and isinstance(action, StartInstance | StartContainer):
                    self._heals.setdefault(instance, []).append(now)
                self._in_hand[JOB + instance] = action
                self._jobs.submit(JOB + instance, lambda action=action: self._steps(action, {}), lane=JOB + instance)  # type: ignore[misc]
        return carried

    def _live_first(self, healing: frozenset[str], now: float) -> float:
        """Seconds for which starts of live instances, under way now, are waited for."""
        under_way = {_started(action) for action in self._in_hand.values()} & healing
        return max((self._heals[name][-1] + LIVE_FIRST - now for name in under_way if name in self._heals), default=0.0)

    def finished(self, job: str, result: object) -> Action | None:
        """Take the result of a background action. Returns it when all its steps went well."""
        action = self._in_hand.pop(job)
        if isinstance(result, ReconcilerError):
            self._failed(action, result)
            return None
        if isinstance(result, Exception):
            raise result
        self._troubles.pop(_about(action), None)
        return action

    def start_errors(self) -> Mapping[str, tuple[str, bool]]:
        """For `Observed.start_errors`."""
        return {
            trouble.instance: (str(trouble.error), isinstance(trouble.error, Transient))
            for trouble in self._troubles.values()
            if trouble.instance is not None
        }

    def conditions(self) -> tuple[Condition, ...]:
        """What goes wrong now, for the report."""
        return tuple(
            Condition(
                type="ActionFailed",
                status=False,
                reason=trouble.error.reason if isinstance(trouble.error, Stalled) else "Retrying",
                message=f"{about}: {trouble.error}",
            )
            for about, trouble in sorted(self._troubles.items())
        )

    def starting(self) -> frozenset[str]:
        """For `Observed.starting`."""
        return frozenset(name for action in self._in_hand.values() if (name := _started(action)) is not None)

    def heals(self) -> Mapping[str, int]:
        """How often each instance was brought back within the window."""
        since = self._clock.monotonic() - HEAL_WINDOW
        self._heals = {name: kept for name, times in self._heals.items() if (kept := [t for t in times if t >= since])}
        return {name: len(times) for name, times in self._heals.items()}

    def _here(self, action: Action, pids: Mapping[str, int], carried: Carried) -> None:
        try:
            carried.switched.extend(self._steps(action, pids))
        except ReconcilerError as error:
            carried.next_in = _sooner(carried.next_in, self._failed(action, error))
        else:
            self._troubles.pop(_about(action), None)

    def _steps(self, action: Action, pids: Mapping[str, int]) -> list[Switched]:
        switched: list[Switched] = []
        for effect in steps(action, self._render):
            switched.extend(self._performer.perform(effect, pids))
        return switched

    def _failed(self, action: Action, error: ReconcilerError) -> float:
        """Remember it; returns the seconds until it is tried again."""
        about = _about(action)
        count = self._troubles[about].count + 1 if about in self._troubles else 1
        delay = back_off(count)
        if isinstance(error, Transient) and error.retry_after is not None:
            delay = max(delay, error.retry_after)
        self._troubles[about] = _Trouble(error, count, self._clock.monotonic() + delay, _started(action))
        self._images.forget()  # an image that is gone is one reason why a container cannot be made
        return delay


def _started(action: Action) -> str | None:
    """The instance, or the nginx, that the action was to start."""
    match action:
        case StartInstance() | StartContainer():
            return instance_of(action)
        case StartNginx():
            return action.container.name
        case _:
            return None


def _about(action: Action) -> str:
    """What an action is about, the same from pass to pass."""
    match action:
        case StartInstance() | SignalInstance():
            return f"{action.kind} {action.instance.name}"
        case StartNginx():
            return f"{action.kind} {action.container.name}"
        case PrepareImage():
            return f"{action.kind} {action.reference}"
        case _:
            return (
                f"{action.kind} {getattr(action, 'name', None) or getattr(action, 'container', None) or getattr(action, 'id', '')}"
            )


def _sooner(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)


def back_off(count: int) -> float:
    """Seconds before a step that has failed `count` times in a row is tried again: 1, 2, 4, ... at most 60."""
    return min(MOST_DELAY, FIRST_DELAY * 2.0 ** min(count - 1, 10))
