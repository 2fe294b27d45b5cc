"""One server for tests of `plan`: a decided story, the simulation's Docker, and the plans in between."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.model.action import Action
from reconciler.model.observed import Elapsed, NginxState, Observed
from reconciler.model.report import InstanceReport, Report
from reconciler.plan.nginxes import Intended, configs
from reconciler.plan.planner import plan
from reconciler.plan.reporting import report
from tests.plan.build import Story
from tests.plan.machine import Box, Machine, fingerprint, make


@dataclass
class Server:
    """Server `a` of a story. `elapsed` and what `see` overrides are up to the test."""

    story: Story
    machine: Machine = field(default_factory=lambda: make("a"))
    now: float = 100.0
    elapsed: dict[str, float] = field(default_factory=dict)
    overrides: dict[str, object] = field(default_factory=dict)

    def observe(self) -> Observed:
        """What is there, with what the test says instead."""
        observed = self.machine.observe(self.story.want, self.story.cluster, self.now, {})
        return observed.model_copy(update=self.overrides)

    def intended(self, observed: Observed) -> dict[str, Intended]:
        """What every nginx should have loaded."""
        assert self.story.cluster is not None
        found = configs(self.story.want, self.story.cluster, observed, self.machine.site)
        return {name: Intended(config, fingerprint(config)) for name, config in found.items()}

    def plan(self) -> tuple[Action, ...]:
        """The actions of a pass."""
        assert self.story.cluster is not None
        observed = self.observe()
        elapsed = Elapsed(seconds=self.elapsed)
        return plan(self.story.want, self.story.cluster, observed, elapsed, self.machine.site, self.intended(observed))

    def report(self, previous: Report | None = None) -> Report:
        """What it reports."""
        observed = self.observe()
        return report(
            self.story.want, self.story.cluster, observed, self.machine.site, self.intended(observed), previous,
            identity="a", program="1", elapsed=Elapsed(),
        )  # fmt: skip

    def says(self) -> dict[str, InstanceReport]:
        """What it reports of its slots, by slot."""
        return {entry.slot: entry for entry in self.report().instances}

    def kinds(self) -> list[str]:
        """The kinds of a pass's actions, in order."""
        return [action.kind for action in self.plan()]

    def carry_out(self) -> tuple[Action, ...]:
        """One pass."""
        actions = self.plan()
        for action in actions:
            self.machine.apply(action, self.now, 99, 0.0, True)
        self.now += 10.0
        return actions

    def calm(self) -> Server:
        """Passes until nothing is planned."""
        for _ in range(12):
            if not self.carry_out():
                return self
        raise AssertionError(f"it goes on planning {self.plan()}")

    def box(self, name: str) -> Box:
        """A container by its name."""
        return next(box for box in self.machine.boxes.values() if box.plan.name == name)

    def remove(self, name: str) -> None:
        """By hand."""
        del self.machine.boxes[self.box(name).id]

    def stop(self, name: str, status: str = "exited") -> None:
        """By hand, or by itself."""
        self.box(name).status = status

    def nginx(self, name: str, **changes: object) -> None:
        """Say something else of an nginx."""
        states = dict(self.observe().nginx)
        states[name] = NginxState.model_validate({**states[name].model_dump(), **changes})
        self.overrides["nginx"] = states
