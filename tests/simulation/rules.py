"""The product's rules under test, as one value: a mutation replaces one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from reconciler.engine.following import Followed, choose
from reconciler.engine.standing import check_name, may_decide, sole
from reconciler.engine.texts import Texts
from reconciler.model.action import Action
from reconciler.model.observed import Elapsed
from reconciler.model.report import Report
from reconciler.model.routes import NginxConfig
from reconciler.plan.decide import Decision, decide
from reconciler.plan.planner import plan
from reconciler.plan.rebuild import unsettled
from reconciler.plan.reporting import report as make_report
from reconciler.render.nginx import Rendered, render


@lru_cache(maxsize=20000)
def rendered(config: NginxConfig) -> Rendered:
    """The product's text, remembered across runs: their servers and services have the same names."""
    return render(config)


class Remembered(Texts):
    """The engine's texts, rendered as the rules say."""

    def __init__(self, rule: Callable[[NginxConfig], Rendered]) -> None:
        super().__init__()
        self._rule = rule
        self._known: dict[int, tuple[NginxConfig, Rendered]] = {}

    def render(self, config: NginxConfig) -> Rendered:
        """The text and its fingerprint.

        A configuration's hash is worked out anew each time it is asked for, so the same object is known by itself.
        """
        known = self._known.get(id(config))
        if known is None or known[0] is not config:
            if len(self._known) > 256:
                self._known.clear()
            known = self._known[id(config)] = (config, self._rule(config))
        return known[1]


@dataclass(frozen=True)
class Rules:
    """The product's rules under test; a mutation replaces one of these."""

    decide: Callable[..., Decision] = decide
    plan: Callable[..., tuple[Action, ...]] = plan
    report: Callable[..., Report] = make_report
    render: Callable[[NginxConfig], Rendered] = rendered
    choose: Callable[..., Followed] = choose
    may_decide: Callable[..., bool] = may_decide
    sole: Callable[..., bool] = sole
    check_name: Callable[..., None] = check_name
    unsettled: Callable[..., tuple[str, ...]] = unsettled
    elapsed: Callable[[Elapsed], Elapsed] = lambda elapsed: elapsed
    compares: bool = True  # whether the remote compares before it swaps
