"""One server for tests of `plan`: a decided story, the simulation's Docker and images, and the plans in between."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.engine.executor import steps
from reconciler.model.action import Action, PrepareImage
from reconciler.model.observed import Elapsed, NginxState, Observed
from reconciler.model.report import InstanceReport, Report
from reconciler.model.site import Site
from reconciler.plan.gates import gate_targets
from reconciler.plan.nginxes import Intended, configs
from reconciler.plan.planner import plan
from reconciler.plan.reporting import report
from tests.plan.build import Story
from tests.simulation.boxes import Box, Boxes
from tests.simulation.looking import Probes, nginx_states, pairs_of, seen_of
from tests.simulation.pulls import Pulls
from tests.simulation.rules import rendered
from tests.simulation.versions import address

SITE = Site(server="a", nginx_image="nginx", nginx_root="/nginx", address=address("a"))


@dataclass
class Server:
    """Server `a` of a story. `elapsed` and what `see` overrides are up to the test."""

    story: Story
    boxes: Boxes = field(default_factory=lambda: Boxes("a", "a"))
    pulls: Pulls = field(default_factory=Pulls)
    site: Site = SITE
    now: float = 100.0
    elapsed: dict[str, float] = field(default_factory=dict)
    overrides: dict[str, object] = field(default_factory=dict)
    probes: Probes = field(default_factory=Probes)
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)

    def observe(self) -> Observed:
        """What is there, with what the test says instead."""
        self.pairs = pairs_of(self.boxes, self.pairs, self.story.cluster)
        observed = seen_of(self.boxes, self.pulls, self.now).model_copy(
            update={"pairs": dict(self.pairs), "nginx": nginx_states(self.boxes)}
        )
        targets = gate_targets(self.story.want, self.story.cluster, observed)
        return observed.model_copy(update={"gates": self.probes.gates(self.boxes, targets, self.now), **self.overrides})

    def intended(self, observed: Observed) -> dict[str, Intended]:
        """What every nginx should have loaded."""
        assert self.story.cluster is not None
        found = configs(self.story.want, self.story.cluster, observed, self.site)
        return {name: Intended(config, rendered(config).fingerprint) for name, config in found.items()}

    def plan(self) -> tuple[Action, ...]:
        """The actions of a pass."""
        assert self.story.cluster is not None
        observed = self.observe()
        elapsed = Elapsed(seconds=self.elapsed)
        return plan(self.story.want, self.story.cluster, observed, elapsed, self.site, self.intended(observed))

    def report(self, previous: Report | None = None) -> Report:
        """What it reports."""
        observed = self.observe()
        return report(
            self.story.want, self.story.cluster, observed, self.site, self.intended(observed), previous,
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
            if isinstance(action, PrepareImage):
                self.pulls.prepare(action, self.now, answers=True)
            for effect in steps(action, rendered):
                self.boxes.perform(effect, self.now, old=0.0, load=0.0)
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
        return next(box for box in self.boxes.boxes.values() if box.plan.name == name)

    def remove(self, name: str) -> None:
        """By hand."""
        del self.boxes.boxes[self.box(name).id]

    def stop(self, name: str, status: str = "exited") -> None:
        """By hand, or by itself."""
        self.box(name).status = status

    def nginx(self, name: str, **changes: object) -> None:
        """Say something else of an nginx."""
        states = dict(self.observe().nginx)
        states[name] = NginxState.model_validate({**states[name].model_dump(), **changes})
        self.overrides["nginx"] = states
