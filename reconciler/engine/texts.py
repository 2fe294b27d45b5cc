"""The texts that this server's nginxes should have loaded, rendered once for as long as they are intended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import is_

from reconciler.errors import Stalled
from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Desired
from reconciler.model.observed import Elapsed, NginxState, Observed
from reconciler.model.routes import NginxConfig
from reconciler.model.site import Site
from reconciler.plan.masks import mask, masked
from reconciler.plan.nginxes import Intended, configs
from reconciler.plan.refusals import Settled, due, instance_addresses, leave_out, settle
from reconciler.plan.upstreams import all_run
from reconciler.render.blame import unwritable
from reconciler.render.nginx import Rendered, render

LOOKED_AT = ("containers", "pairs", "nginx", "dead", "busy_loopback")
"""What of `Observed` an nginx's text depends on."""


@dataclass(frozen=True)
class _Asked:
    """What was asked for last. `same`: compared by identity; `alike`: all that the texts depend on of what was observed."""

    same: tuple[object, ...]
    alike: tuple[object, ...]
    answer: dict[str, Intended]


class Texts:
    """Remembers what was rendered: the same configurations are asked for in every pass."""

    def __init__(self) -> None:
        self._rendered: dict[NginxConfig, Rendered] = {}
        self._variants: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        """Fingerprint of a text that stands for another one -> fingerprints of those that it stands for, and what it lacks."""
        self._last: _Asked | None = None
        self.worked_out = 0

    def render(self, config: NginxConfig) -> Rendered:
        """The text and its fingerprint. Raises Stalled for a value that must not be written into nginx."""
        found = self._rendered.get(config)
        if found is None:
            found = self._rendered[config] = render(config)
        return found

    def intended(
        self, desired: Desired, cluster: ClusterState, observed: Observed, site: Site, elapsed: Elapsed
    ) -> dict[str, Intended]:
        """What each nginx should have loaded, by container name; texts that nobody asks for any more are forgotten.

        Worked out anew only when something that it depends on has changed, which a pass that finds nothing to do has not.
        """
        same = (desired, cluster)
        alike = (site, due(observed, elapsed), *(getattr(observed, name) for name in LOOKED_AT))
        last = self._last
        if last is not None and all(map(is_, last.same, same)) and last.alike == alike:
            return last.answer
        self.worked_out += 1
        now = configs(desired, cluster, observed, site)
        up = now if all_run(cluster, observed) else configs(desired, cluster, observed, site, assume_up=True)
        asked: set[NginxConfig] = set()
        answer = {name: self._intended(config, up.get(name, config), observed, elapsed, asked) for name, config in now.items()}
        self._rendered = {config: text for config, text in self._rendered.items() if config in asked}
        alive = {text.fingerprint for text in self._rendered.values()} | {state.loaded for state in observed.nginx.values()}
        self._variants = {fingerprint: known for fingerprint, known in self._variants.items() if fingerprint in alive}
        self._last = _Asked(same, alike, answer)
        return answer

    def _intended(
        self, config: NginxConfig, up: NginxConfig, observed: Observed, elapsed: Elapsed, asked: set[NginxConfig]
    ) -> Intended:
        state = observed.nginx.get(config.name) or NginxState(name=config.name)
        config, left_out = self._writable(config)
        up = leave_out(up, left_out)
        addresses = instance_addresses(observed) if observed.dead else {}
        chosen, running = (settle(mask(wanted, observed.dead, addresses), state, observed, elapsed) for wanted in (config, up))
        asked |= {config, up, chosen.config, running.config}
        bases = frozenset({self.render(config).fingerprint, self.render(up).fingerprint})
        for settled in (chosen, running):
            self._remember(settled, bases)
        accepted = {name: lacks for name, (stands_for, lacks) in self._variants.items() if stands_for & bases}
        return Intended(
            chosen.config,
            self.render(chosen.config).fingerprint,
            self.render(running.config).fingerprint,
            missing=chosen.missing,
            accepted={**accepted, **dict.fromkeys(bases, frozenset[str]())},
            unwritable=left_out,
            silent=chosen.silent,
            masked=frozenset(masked(config, observed.dead, addresses)) if observed.dead else frozenset(),
        )

    def _remember(self, settled: Settled, bases: frozenset[str]) -> None:
        fingerprint = self.render(settled.config).fingerprint
        if fingerprint not in bases:
            self._variants[fingerprint] = (bases, settled.missing)

    def _writable(self, config: NginxConfig) -> tuple[NginxConfig, Mapping[str, str]]:
        """The configuration without what cannot be rendered. Raises Stalled when no service is to blame for that."""
        try:
            self.render(config)
        except Stalled:
            found = unwritable(config)
            if not found:
                raise
            return leave_out(config, found), found
        return config, {}
